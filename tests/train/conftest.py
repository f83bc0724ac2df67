"""What runs in this folder share."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> str:
    """A folder of compiled programs."""
    return str(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def programs_are_kept(programs):
    """The runs of a module compile once."""
    changes = {
        "jax_compilation_cache_dir": programs,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in changes}
    for values in (changes, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is changes:
            yield
