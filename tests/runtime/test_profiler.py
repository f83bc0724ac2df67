"""A trace holds the iterations that were asked for, and lies in the workdir."""

import gzip
import json
import re

import jax
import jax.numpy as jnp
import pytest
from etils import epath
from helpers.bucket import make_bucket

from inr_gan_jax.config import ProfileConfig, base, identity, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.runtime.profiler import FOLDER, Profiler


def run(settings: ProfileConfig, workdir, iterations: int) -> list[str]:
    """A loop of so many iterations; returns what was said."""
    said = []
    profiler = Profiler(settings, workdir, said.append)
    work, state = jax.jit(lambda x: x @ x), jnp.ones((8, 8))
    for _ in range(iterations):
        with profiler.step(state):
            state = work(state)
    profiler.close()
    return said


def traced(said: str) -> list[int]:
    """The iterations in the trace that a line tells of."""
    path = re.fullmatch(
        r"profile of \d+ iterations: open (\S+) on https://ui.perfetto.dev, .*", said
    )
    events = json.loads(gzip.decompress(epath.Path(path[1]).read_bytes()))["traceEvents"]
    return sorted(
        int(event["args"]["step_num"]) for event in events if event.get("name") == "iteration"
    )


def test_the_iterations_asked_for(tmp_path):
    (said,) = run(ProfileConfig(steps=3, start=2), tmp_path, 9)
    assert said.startswith("profile of 3 iterations: ") and traced(said) == [2, 3, 4]
    assert said.endswith(f"xprof --logdir={tmp_path / FOLDER}")
    assert len(list((tmp_path / FOLDER).glob("plugins/profile/*/*.xplane.pb"))) == 1
    (said,) = run(ProfileConfig(steps=1, start=0), tmp_path / "first", 1)
    assert traced(said) == [0]


def test_a_run_that_stops_sooner_keeps_what_it_traced(tmp_path):
    (said,) = run(ProfileConfig(steps=100, start=2), tmp_path, 4)
    assert said.startswith("profile of 2 iterations: ") and traced(said) == [2, 3]


def test_a_workdir_in_a_cloud(monkeypatch):
    bucket = make_bucket(monkeypatch)
    (said,) = run(ProfileConfig(steps=2, start=1), "gs://bucket/run", 4)
    assert traced(said) == [1, 2]
    assert sum(name.endswith(".xplane.pb") for name in bucket.store) == 1


@pytest.mark.parametrize("settings, process", [(ProfileConfig(), 0), (ProfileConfig(steps=2), 1)])
def test_nothing_is_traced_unless_asked_for_on_the_first_process(
    settings, process, tmp_path, monkeypatch
):
    monkeypatch.setattr(jax, "process_index", lambda: process)
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    assert run(settings, tmp_path, 30) == [] and not list(tmp_path.iterdir()) and not waited


def test_a_profile_is_no_part_of_what_a_run_is():
    config = base("inr_gan")
    config.data.source = "digits"
    plain = identity(parse(config), "hash")
    config.profile.steps = 5
    assert parse(config).profile == ProfileConfig(steps=5)
    assert identity(parse(config), "hash") == plain
    config.profile.start = -1
    with pytest.raises(UserError, match="config.profile.start = -1 must be 0 or more"):
        parse(config)
