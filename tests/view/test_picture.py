"""What is shown, as text: the same picture from it, or one line that says what is wrong."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inr_gan_jax.errors import UserError
from inr_gan_jax.view.picture import SPACES, Picture, parse

SEED = st.integers(0, 2**32 - 1)
PART = st.integers(0, 1000).map(lambda n: n / 1000)


@st.composite
def pictures(draw):
    count = draw(st.sampled_from([1, 2, 4]))
    first = draw(st.integers(0, 5))
    mixed = count == 1 and draw(st.booleans())
    return Picture(
        tuple(draw(SEED) for _ in range(count)),
        draw(PART),
        draw(PART),
        draw(st.sampled_from(SPACES)),
        draw(st.integers(-200, 200)) / 100,
        draw(st.none() | st.integers(0, 999)),
        draw(SEED) if mixed else None,
        (first, first + draw(st.integers(0, 5))) if mixed else None,
        draw(st.none() | st.integers(0, 9)),
        draw(st.sampled_from([None, 1.0, 2.5, math.inf])),
        draw(st.sampled_from(["clamp", "reflect"])),
    )


@given(pictures())
def test_its_text_is_the_picture(picture):
    assert parse(picture.text()) == picture
    assert parse("#" + picture.text()) == picture
    assert picture.function.seen == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed=3", "'seed' is not one of seeds, .*did you mean \"seeds\""),
        ("seeds=1,2,3", "seeds=1,2,3: must be one, two or four seeds"),
        ("seeds=4294967296", "must be a whole number from 0 to 4294967295"),
        ("seeds=-1", "must be a whole number"),
        ("seeds=１", "must be a whole number"),
        ("seeds=1&seeds=2", "each name once"),
        ("psi=nan", "psi=nan: must be a number from -2 to 2"),
        ("u=1.5", "must be a number from 0 to 1"),
        ("space=pixel", "must be one of weights, style, latent"),
        ("density=0.5", "or inf"),
        ("mix=3", "go together"),
        ("seeds=1,2&mix=3&layers=0-1", "give one seed"),
        ("seeds=1&mix=3&layers=2-1", "must not come after"),
        ("../../etc/passwd", "is not one of seeds"),
        ("tables=" + "x" * 10_000, "must be one of clamp, reflect"),
    ],
)
def test_what_it_cannot_be(text, said):
    with pytest.raises(UserError, match=said) as caught:
        parse(text)
    assert len(str(caught.value)) < 300
