"""The best checkpoint stays, and a run that gets no better ends."""

import json

import pytest
from helpers.training import shallow

from inr_gan_jax.config import parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.model import load
from inr_gan_jax.storage.checkpoint import BEST, FOLDER, Checkpoints, locate
from inr_gan_jax.train import loop
from inr_gan_jax.train.watch import Watch

METRIC = "fd_pixel100"


def config_of(**evaluate):
    config = shallow(8, kimg=0.16)
    config.log.metrics_kimg = config.log.grid_kimg = 0.0
    config.log.checkpoint_kimg, config.log.keep = 0.032, 1
    values = {"metrics": METRIC, "kimg": 0.016, "keep_best": METRIC, **evaluate}
    config.evaluate.update(values)
    return parse(config)


@pytest.mark.parametrize("stop_after", [0.0, 0.064])
def test_the_best_stays_and_a_run_without_progress_ends(stop_after, tmp_path, monkeypatch, capsys):
    values = {16: 5.0, 32: 3.0, 48: 1.0, 64: 2.0}
    monkeypatch.setattr(
        Watch,
        "measure",
        lambda self, state, images, iteration: [
            {"metric": METRIC, "value": values.get(images, 4.0)}
        ],
    )
    source = open_source("digits", height=8, width=8, channels=1, labels=False)
    config = config_of(stop_after=stop_after)
    loop.train(config, source, tmp_path)
    end = 112 if stop_after else 160
    with Checkpoints(tmp_path / FOLDER, read_only=True) as checkpoints:
        assert checkpoints.steps() == [48 // 8, end // 8]
    assert json.loads((tmp_path / BEST).read_text())["value"] == 1.0
    assert load(tmp_path / "best").images_seen == 48 and load(tmp_path).images_seen == end
    capsys.readouterr()
    loop.train(config, source, tmp_path)  # nothing is left to do
    told = capsys.readouterr().out
    why = f"no better {METRIC} for 0.064 kimg: the best, 1, is of 0.048 kimg"
    assert (why if stop_after else "already trained") in told


def test_what_was_found_after_the_place_that_a_run_goes_on_from_is_forgotten(tmp_path):
    from inr_gan_jax.train.best import Best

    settings = config_of().evaluate
    record = {"metric": METRIC, "value": 1.0, "step": 6, "kimg": 0.048}
    (tmp_path / BEST).write_text(json.dumps(record))

    class Saved:
        protected, there = None, [4, 6]

        def steps(self):
            return self.there

    def kept(images, there=(4, 6), metric=METRIC):
        saved = Saved()
        saved.there = list(there)
        (tmp_path / BEST).write_text(json.dumps(record | {"metric": metric}))
        Best(settings, tmp_path, saved).going_on_from(images)
        return saved.protected

    assert kept(48) == 6 and kept(32) is None
    assert kept(48, there=[4]) is None and kept(48, metric="fid50k") is None


def test_mistakes_are_told(tmp_path):
    for values, why in (
        ({"keep_best": "fid50k"}, "must be a distance of config.evaluate.metrics"),
        ({"kimg": 0.0}, "measured while it trains"),
        ({"keep_best": "", "stop_after": 1.0}, "needs config.evaluate.keep_best"),
    ):
        with pytest.raises(UserError, match=why):
            config_of(**values)
    with pytest.raises(UserError, match="none is best"):
        (tmp_path / FOLDER).mkdir()
        locate(tmp_path / "best")
