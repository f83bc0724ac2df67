"""A user without a home folder, and folders that cannot be written: done without, in a line."""

import os

import jax
import pytest
from helpers.environment import GOLDEN

import inr_gan_jax
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import cache
from inr_gan_jax.runtime import devices
from inr_gan_jax.storage.paths import cache_root


@pytest.fixture
def homeless(monkeypatch):
    """As in a container whose user the system does not know."""
    for name in ("HOME", "XDG_CACHE_HOME", "INR_GAN_JAX_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


@pytest.fixture
def jax_settings():
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_without_a_home_caches_are_done_without(homeless, jax_settings, caplog):
    with pytest.raises(OSError, match="there is no home folder"):
        cache_root()
    assert devices.compilation_cache() == ""
    devices.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert cache.lookup({"a": 1}) is None
    cache.keep({"a": 1}, {})
    with pytest.raises(UserError, match=r"needs a cache folder.*give --cache_dir=DIR"):
        inr_gan_jax.load(GOLDEN / "formats" / "cips-res.pt")
    said = [record.getMessage() for record in caplog.records]
    assert sum("compiled programs are not kept" in line for line in said) <= 1


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path, jax_settings):
    (tmp_path / "file").write_text("")
    devices.use_compilation_cache(str(tmp_path / "file" / "xla"))
    assert not jax.config.jax_enable_compilation_cache


def test_home_in_a_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/photos.zip|~/photos.zip does not exist"):
        open_source("~/photos.zip", height=8, width=8, channels=1, labels=False)
