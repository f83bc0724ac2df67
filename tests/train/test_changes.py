"""A run that goes on with other data or another recipe: only if asked, with a date, exactly."""

import json
import sys

import numpy as np
import pytest
from helpers.runs import assert_same_run, cut_back
from helpers.training import shallow
from PIL import Image

from inr_gan_jax.config import Config, parse
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.train import changes, loop


def folder(path, count):
    path.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(path / f"{index}.png")
    return open_source(str(path), height=8, width=8, channels=1, labels=False)


def config(kimg, **keys):
    draft = shallow(8, kimg=kimg)
    draft.train.batch_size = 8
    draft.log.metrics_kimg = draft.log.grid_kimg = 0.0
    draft.log.checkpoint_kimg = 0.04
    draft.update_from_flattened_dict(keys)
    return parse(draft)


def test_going_on_with_other_data_and_batches_is_exact(tmp_path, capsys, monkeypatch):
    few, many = folder(tmp_path / "few", 12), folder(tmp_path / "many", 19)
    one, two = tmp_path / "one", tmp_path / "two"
    loop.train(config(0.024), few, one)
    other = {"train.batch_size": 16, "train.g_lr": 0.001}
    with pytest.raises(UserError) as refused:
        loop.train(config(0.056, **other), many, one)
    for words in (
        "config.train.batch_size was 8, now 16",
        "config.train.g_lr was 0.0025, now 0.001",
        "the data (config.data.source) are not the same (12 images before, 19 now",
        "--config.train.on_change=continue",
    ):
        assert words in str(refused.value)
    loop.train(config(0.056, **other, **{"train.on_change": "continue"}), many, one)
    cut_back(one, 4, two)
    capsys.readouterr()
    for flag in ("--what=trains", "--what=finds_it_done"):
        monkeypatch.setattr(sys, "orig_argv", ["/x/python3.11", "/x/inr-gan", "train", flag])
        loop.train(config(0.056, **other), many, two)  # it is this run now
    told = capsys.readouterr().out
    assert "going on from 0.04 kimg" in told
    assert "since 0.024 kimg: config.train.batch_size was 8, now 16" in told
    assert_same_run(one, two)
    record = json.loads((two / "run.json").read_text())
    assert record["command"] == "inr-gan train --what=trains"
    (change,) = record["changes"]
    assert change["images"] == 24 and change["changed"]["config.train.batch_size"] == [8, 16]
    assert "was 8, now 16" in (one / "log.txt").read_text()


def test_a_workdir_of_the_first_release_goes_on(tmp_path):
    """Its identity of a folder was names and lengths, of a zip the names as they are stored."""
    source = folder(tmp_path / "a", 3)
    ours = {"config.data.content": source.content_hash, "config.seed": 0}
    (former,) = source.former_hashes
    record = {"identity": ours | {"config.data.content": former}}
    assert former != source.content_hash
    changes.accept(record, ours, Config(), source, tmp_path)
    assert record["identity"] == ours and "changes" not in record


@pytest.mark.parametrize(
    "key, old, new",
    [
        ("config.seed", 0, 1),
        ("config.model.rank", 2, 3),
        ("config.discriminator.channel_max", 8, 16),
        ("config.data.labels", False, True),
        ("config.train.beta1", 0.0, 0.5),  # Adam would need a first moment that was not kept
    ],
)
def test_what_cannot_change(tmp_path, key, old, new):
    source = folder(tmp_path / "a", 3)
    record = {"identity": {key: old}}
    with pytest.raises(UserError, match=f"{key} was {old}, now {new}, which cannot change"):
        changes.accept(record, {key: new}, go_on(), source, tmp_path)
    record = {"identity": {key: old}, "data": {"images": 3, "classes": 7}}
    with pytest.raises(UserError, match="had 7 classes, now 0, which cannot change"):
        changes.accept(record, {key: old}, go_on(), source, tmp_path)


def go_on():
    return config(1, **{"train.on_change": "continue"})


def test_dates(tmp_path):
    """A change holds from where the run went on: also if that was lost, and the run is behind."""
    source, key = folder(tmp_path / "a", 3), "config.data.mirror"
    record = {"identity": {key: True}}
    changes.accept(record, {key: False}, go_on(), source, tmp_path)
    assert changes.dated(record, 400) and not changes.dated(record, 500)
    changes.accept(record, {key: False, "config.augment.p": 0.5}, go_on(), source, tmp_path)
    assert changes.dated(record, 800)
    assert changes.order_from(record) == 400
    assert changes.augmented_anew(record, 800) and not changes.augmented_anew(record, 400)
    assert changes.dated(record, 200)  # the checkpoints of 400 and 800 are gone
    assert changes.order_from(record) == 200 and changes.augmented_anew(record, 200)
    assert [line.split(":")[0] for line in changes.lines(record)] == ["since 0.2 kimg"] * 2
