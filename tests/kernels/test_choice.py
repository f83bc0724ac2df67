"""What evaluates the grid of a generator in training, and why."""

import json

import jax
import pytest

from inr_gan_jax.config import base, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.kernels import choice
from inr_gan_jax.models.networks import networks_of
from inr_gan_jax.runtime import devices

TIMED = {"xla": 2e-3, "pallas": 1e-3}


def config_of(family="inr_gan", **changes):
    start = 8 if family == "inr_gan" else 4
    config = base(family, height=8, width=8, channels=1, z_dim=4, w_dim=4, channel_base=64,
                  channel_max=8, rank=2, input_resolution=start)  # fmt: skip
    config.data.source, config.train.batch_size = "digits", 8
    config.update_from_flattened_dict(changes)
    return parse(config)


def networks(*args, **changes):
    config = config_of(*args, **changes)
    return networks_of(config.model, config.discriminator)


def chosen(dtype, family="inr_gan", wanted="auto"):
    return choice.choose(wanted, networks(family), 8, dtype)


@pytest.fixture
def tpu(monkeypatch, tmp_path):
    """A machine that says it has one, and what was timed there: the calls."""
    calls = []
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setattr(devices, "compilation_cache", lambda: str(tmp_path / "cache" / "xla"))
    monkeypatch.setattr(choice, "seconds", lambda *case: calls.append(case) or dict(TIMED))
    return calls


def test_without_a_timing_it_is_xla():
    assert chosen("float32") == ("xla", "the kernels are for TPUs")


def test_demanded_kernels_are_interpreted_here_and_refused_on_a_gpu(monkeypatch):
    name, why = chosen("float32", wanted="pallas")
    assert name == "pallas" and "interpreted" in why
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="on a GPU use xla"):
        chosen("float32", wanted="pallas")
    assert chosen("float32")[0] == "xla"


def test_a_tpu_times_both_once_and_remembers(tpu, tmp_path):
    first = chosen("bfloat16")
    assert first == ("pallas", "1.00 ms a pass here, 2.00 ms by xla")
    assert chosen("bfloat16") == first and len(tpu) == 1
    chosen("float32")
    assert len(tpu) == 2
    assert set(map(len, json.loads((tmp_path / "cache" / choice.FILE).read_text()).values())) == {2}


def test_a_damaged_memory_is_made_anew(tpu, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / choice.FILE).write_text("[")
    chosen("bfloat16")
    chosen("bfloat16")
    assert len(tpu) == 1


def test_kernels_that_cannot_be_compiled_are_named(tpu, monkeypatch):
    def fails(*case):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: vmem\nmore")

    monkeypatch.setattr(choice, "seconds", fails)
    name, why = chosen("bfloat16")
    assert name == "xla" and why.endswith("RESOURCE_EXHAUSTED: vmem")


def test_what_has_no_kernels_is_not_timed(tpu):
    for family in ("inr_gan_bil", "stylegan2"):
        assert chosen("bfloat16", family)[0] == "xla"
    assert not tpu


@pytest.mark.parametrize("family", ["inr_gan_bil", "stylegan2"])
def test_what_has_no_kernels_cannot_have_them_demanded(family):
    with pytest.raises(UserError, match="there are none for " + family):
        config_of(family, kernels="pallas")


def test_both_are_timed_with_gradients():
    timed = choice.seconds(networks(), 8, "float32", interpret=True, repeats=1)
    assert timed.keys() == {"xla", "pallas"} and min(timed.values()) > 0
