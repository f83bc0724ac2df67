"""What was measured is told once: on the console, in TensorBoard, and as lines of JSON."""

import json
import types

import pytest
from etils import epath
from helpers.bucket import make_bucket
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from inr_gan_jax.metrics.results import FILE, Results, forget
from inr_gan_jax.storage.events import SummaryWriter


class Measured:
    """An evaluator whose values are the number of calls; it may be killed in the middle."""

    def __init__(self, *names: str):
        self.names, self.calls, self.die_after = names, 0, None

    def measure(self, model, repeats):
        for name in self.names:
            if name == self.die_after:
                raise KeyboardInterrupt
            self.calls += 1
            yield {"metric": name, "value": float(self.calls), "images": 10, "seconds": 1.0}


def model(images: int):
    return types.SimpleNamespace(images_seen=images)


def lines(folder) -> list[tuple[str, float, float]]:
    found = [json.loads(line) for line in (epath.Path(folder) / FILE).read_text().splitlines()]
    return [(line["metric"], line["kimg"], line["value"]) for line in found]


@pytest.mark.parametrize("place", ["disk", "cloud"])
def test_what_is_measured_again_is_told_once(place, tmp_path, monkeypatch):
    if place == "cloud":
        make_bucket(monkeypatch)
    folder = tmp_path if place == "disk" else "gs://bucket/run"
    evaluator, said = Measured("fid", "is"), []
    results = Results(evaluator, folder, None, 0.1, said.append)
    assert forget(folder, 500) == set()
    for images in (500, 1000, 1500):
        results.measure(model(images), "there")
    assert forget(folder, 1000) == {("fid", 0.5), ("is", 0.5), ("fid", 1.0), ("is", 1.0)}
    results.measure(model(1500), "there")
    assert lines(folder) == [
        ("fid", 0.5, 1), ("is", 0.5, 2), ("fid", 1.0, 3), ("is", 1.0, 4), ("fid", 1.5, 7),
        ("is", 1.5, 8),
    ]  # fmt: skip
    results.measure(model(1500), "there")  # asked for once more, it is told once more
    assert len(lines(folder)) == 8 and len(said) == 10
    assert said[0] == "fid: 1  (10 images, 1.0 s)"


def test_a_measurement_that_was_killed_is_completed(tmp_path):
    evaluator, said, writer = Measured("fid", "is"), [], SummaryWriter(tmp_path)
    evaluator.die_after = "is"
    with pytest.raises(KeyboardInterrupt):
        Results(evaluator, tmp_path, writer, 0.1, said.append).measure(model(1000), "there")
    writer.close()
    evaluator.die_after, writer = None, SummaryWriter(tmp_path)
    results = Results(evaluator, tmp_path, writer, 0.1, said.append)
    results.known = forget(tmp_path, 1000)
    assert results.known == {("fid", 1.0)}
    assert len(results.measure(model(1000), "there")) == 2
    writer.close()
    assert lines(tmp_path) == [("fid", 1.0, 1), ("is", 1.0, 3)]
    assert [line.split(":")[0] for line in said] == ["fid", "is"]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(p.step, p.value) for p in events.Scalars("metrics/fid")] == [(1000, 1)]
    assert [(p.step, p.value) for p in events.Scalars("metrics/is")] == [(1000, 3)]


@pytest.mark.parametrize("torn", ["", '{"metric": "fid", "kimg": 1.5', '{"metric"', "[1]\n", "7"])
def test_half_a_line_does_no_harm(torn, tmp_path):
    results = Results(Measured("fid"), tmp_path, None, 0.1, str)
    results.measure(model(500), "there")
    whole = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(whole + torn)
    results.measure(model(1000), "there")
    assert lines(tmp_path) == [("fid", 0.5, 1), ("fid", 1.0, 2)]
    (tmp_path / FILE).write_text(whole + torn)
    assert forget(tmp_path, 400) == set() and (tmp_path / FILE).read_text() == ""
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
