"""Names of metrics: what they mean, and what is said of names that mean nothing."""

import pytest

from inr_gan_jax.config.metric_names import KNOWN, Metric, parse_names
from inr_gan_jax.errors import UserError


def test_published_names():
    found = {m.name: (m.kind, m.count, m.full, m.space, m.sampling) for m in parse_names(
        "fid50k_full,kid50k_full,is50k,pr50k3_full,ppl_zfull,ppl_wend"
    )}  # fmt: skip
    assert found == {
        "fid50k_full": ("fid", 50_000, True, "", ""),
        "kid50k_full": ("kid", 50_000, True, "", ""),
        "is50k": ("is", 50_000, False, "", ""),
        "pr50k3_full": ("pr", 50_000, True, "", ""),
        "ppl_zfull": ("ppl", 50_000, False, "z", "full"),
        "ppl_wend": ("ppl", 50_000, False, "w", "end"),
    }
    assert len(parse_names(",".join(KNOWN))) == len(KNOWN)


def test_other_counts_and_nothing():
    assert parse_names("") == parse_names("  ") == ()
    assert parse_names("fd_pixel2000") == (Metric("fd_pixel2000", "fd_pixel", 2000),)
    assert parse_names("fid13k_full")[0].count == 13_000  # the 3 is no number of neighbours
    assert parse_names("ppl2k_wfull")[0].count == 2000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fid50k_ful", 'did you mean "fid50k_full"'),
        ("pr50k", "form pr50k3_full"),
        ("is50k3", "is it is50k?"),
        ("fid5", "too few images"),
        ("fid50k_full,fid50k_full", "twice"),
        ("fid50k_full,,is50k", "'' is no metric"),
    ],
)
def test_mistakes(text, said):
    with pytest.raises(UserError, match="config.evaluate.metrics") as error:
        parse_names(text)
    assert said in str(error.value)
