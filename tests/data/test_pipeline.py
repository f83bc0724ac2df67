"""Image k of a run depends on (seed, k) alone, however the reading is shared out."""

import itertools
import logging
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import shared_memory

import numpy as np
import pytest
from helpers.environment import environment
from hypothesis import given, settings
from hypothesis import strategies as st

from inr_gan_jax.data import pipeline
from inr_gan_jax.data.pipeline import batches, image_at
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError


class Counted:
    """A source whose image i shows i, with 0 beside it to tell flips: [1, 2, 1]."""

    height, width, channels = 1, 2, 1

    def __init__(self, length: int):
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.array([[[index + 1], [0]]], np.uint8), index


class Broken(Counted):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        raise UserError("x.zip/1.png cannot be decoded: replace or remove it")


class Damaged(Counted):
    """Some of its images cannot be read."""

    name = "x.zip"

    def __init__(self, length: int, damaged):
        super().__init__(length)
        self.damaged = frozenset(damaged)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index in self.damaged:
            raise UserError(f"x.zip/{index}.png cannot be decoded: replace or remove it")
        return super().__getitem__(index)


def take(source, count: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of the first `count` batches, joined."""
    iterator = batches(source, **options)
    taken = list(itertools.islice(iterator, count))
    iterator.close()
    return tuple(np.concatenate([batch[key] for batch in taken]) for key in ("image", "label"))


def slow(source, seed: int, positions: range, mirror: bool) -> tuple[np.ndarray, np.ndarray]:
    """The meaning: one image at a time."""
    items = [image_at(source, seed, k, mirror) for k in positions]
    return np.stack([image for image, _ in items]), np.array([label for _, label in items])


def assert_same(found, expected) -> None:
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


@given(
    length=st.integers(1, 100),
    rows=st.integers(1, 7),
    processes=st.integers(1, 4),
    start=st.integers(0, 9),
    seed=st.integers(0, 2**63),
    mirror=st.booleans(),
    threads=st.integers(0, 2),
)
@settings(max_examples=20, deadline=None)
def test_any_share_of_the_work_gives_the_same_run(
    length, rows, processes, start, seed, mirror, threads
):
    source, batch_size, count = Counted(length), rows * processes, 3
    options = {"seed": seed, "batch_size": batch_size, "mirror": mirror}
    options |= {"start_image": start * batch_size, "threads": threads, "process_count": processes}
    parts = [take(source, count, process_index=i, **options) for i in range(processes)]
    images = np.stack([images for images, _ in parts]).reshape(processes, count, rows, 1, 2, 1)
    labels = np.stack([labels for _, labels in parts]).reshape(processes, count, rows)
    whole = (
        images.swapaxes(0, 1).reshape(count * batch_size, 1, 2, 1),
        labels.swapaxes(0, 1).reshape(-1),
    )
    positions = range(start * batch_size, (start + count) * batch_size)
    assert_same(whole, slow(source, seed, positions, mirror))


@given(length=st.integers(1, 200), seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_each_epoch_is_a_permutation(length, seed):
    epochs = np.array([image_at(Counted(length), seed, k, False)[1] for k in range(3 * length)])
    for epoch in epochs.reshape(3, length):
        assert sorted(epoch) == list(range(length))


def test_epochs_and_seeds_differ():
    orders = [
        tuple(image_at(Counted(50), seed, k, False)[1] for k in range(50 * epoch, 50 * epoch + 50))
        for seed in range(4)
        for epoch in range(4)
    ]
    assert len(set(orders)) == 16  # Grain's own seeds would repeat: seed 0 epoch 1, seed 1 epoch 0.


def test_the_order_never_changes():
    # A run must go on after an update of grain or numpy: these values are for ever.
    found = [image_at(Counted(100), 7, k, True) for k in (0, 1, 2, 99, 100, 12345)]
    assert [label for _, label in found] == [3, 8, 48, 51, 78, 97]
    flipped = [bool(image[0, 0, 0] == 0) for image, _ in found]
    assert flipped == [True, False, False, True, False, True]


def test_flips_are_keyed_by_position():
    images, labels = take(Counted(100), 20, seed=3, batch_size=100, mirror=True)
    flipped = images[:, 0, 0, 0] == 0
    assert abs(flipped.mean() - 0.5) < 0.04
    for label in range(100):  # The same image is flipped in some epochs and not in others.
        assert 1 < flipped[labels == label].sum() < 19
    plain, same_labels = take(Counted(100), 20, seed=3, batch_size=100, mirror=False)
    np.testing.assert_array_equal(labels, same_labels)
    np.testing.assert_array_equal(plain[:, 0, 0, 0], labels + 1)
    expected = np.where(flipped[:, None, None, None], plain[:, :, ::-1], plain)
    np.testing.assert_array_equal(images, expected)


def test_resuming_goes_on_where_the_run_stopped():
    options = {"seed": 1, "batch_size": 6, "mirror": True}
    images, labels = take(Counted(10), 8, **options)
    for start in (6, 24, 42):
        rest = take(Counted(10), 8 - start // 6, start_image=start, **options)
        assert_same(rest, (images[start:], labels[start:]))


def test_far_positions_cost_nothing():
    start = time.monotonic()
    found = take(Counted(10), 1, seed=0, batch_size=4, mirror=True, start_image=4 * 10**12)
    assert time.monotonic() - start < 5
    assert_same(found, slow(Counted(10), 0, range(4 * 10**12, 4 * 10**12 + 4), True))


def test_types_and_ownership():
    source = open_source("digits", height=16, width=16, channels=1, labels=True)
    iterator = batches(source, seed=0, batch_size=4, mirror=True, process_count=2)
    batch = next(iterator)
    iterator.close()
    iterator.close()
    assert list(iterator) == []
    assert set(batch) == {"image", "label"}
    assert batch["image"].shape == (2, 16, 16, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].shape == (2,) and batch["label"].dtype == np.int32


def test_worker_processes_keep_the_order():
    expected = take(Counted(10), 7, seed=5, batch_size=4, mirror=True, start_image=8)
    options = {"start_image": 8, "workers": 2, "threads": 1}
    found = take(Counted(10), 7, seed=5, batch_size=4, mirror=True, **options)
    assert_same(found, expected)


def test_too_little_shared_memory_is_done_without(monkeypatch, caplog):
    """As in a container, whose /dev/shm has 64 MB: a reader that filled it would be killed."""
    usage = shutil.disk_usage(".")._replace(free=0)
    monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _: usage)
    shared, init = [], shared_memory.SharedMemory.__init__

    def opened(self, *args, **options):
        shared.append(args)
        init(self, *args, **options)

    monkeypatch.setattr(shared_memory.SharedMemory, "__init__", opened)
    options = {"start_image": 8, "workers": 1, "threads": 1}
    expected = take(Counted(10), 7, seed=5, batch_size=4, mirror=True, start_image=8)
    assert_same(take(Counted(10), 7, seed=5, batch_size=4, mirror=True, **options), expected)
    assert not shared
    (record,) = caplog.records
    assert "/dev/shm has 0 MB free, 3.2e-05 MB would be needed" in record.getMessage()
    usage = usage._replace(free=10**9)
    assert_same(take(Counted(10), 7, seed=5, batch_size=4, mirror=True, **options), expected)
    assert shared


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2}, {"workers": 1}])
def test_a_bad_image_is_a_user_error_wherever_it_is_read(options):
    iterator = batches(Broken(10), seed=0, batch_size=4, mirror=False, **options)
    with pytest.raises(UserError) as caught:
        next(iterator)
    assert str(caught.value) == "x.zip/1.png cannot be decoded: replace or remove it"
    iterator.close()


@given(
    length=st.integers(2, 20),
    damage=st.sets(st.integers(0, 19), max_size=4),
    processes=st.integers(1, 2),
    mirror=st.booleans(),
    threads=st.integers(0, 2),
    start=st.integers(0, 3),
)
@settings(max_examples=10, deadline=None)
def test_the_next_readable_image_stands_in(length, damage, processes, mirror, threads, start):
    source = Damaged(length, {i for i in damage if i < length - 1})
    options = {"seed": 3, "batch_size": 4, "mirror": mirror, "process_count": processes}
    options |= {"start_image": 4 * start, "threads": threads, "process_index": processes - 1}
    images, labels = take(Counted(length), 6, **options)
    for image, label in zip(images, labels, strict=True):
        flipped = image[0, 0, 0] == 0
        while label in source.damaged:
            label = (label + 1) % length
        image[0, :, 0] = [0, label + 1] if flipped else [label + 1, 0]
    labels[:] = images.max((1, 2, 3)) - 1
    assert_same(take(source, 6, max_skipped=4, **options), (images, labels))
    if processes == 1:
        one = image_at(source, 3, 4 * start + 5, mirror, max_skipped=4)
        assert_same(one, (images[5], labels[5]))


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2}, {"workers": 2}])
def test_each_unreadable_image_is_named_once_here(options, caplog):
    caplog.set_level(logging.ERROR)
    source = Damaged(10, {2, 3, 7})
    images, labels = take(source, 15, seed=0, batch_size=4, mirror=False, max_skipped=3, **options)
    assert set(labels) == {0, 1, 4, 5, 6, 8, 9}
    said = sorted(record.getMessage() for record in caplog.records)
    assert said == [
        f"x.zip/{i}.png cannot be decoded: replace or remove it; "
        "others take its place (config.data.max_skipped)"
        for i in (2, 3, 7)
    ]


def test_one_more_than_allowed_ends_the_reading_where_it_is_met():
    source = Damaged(100, range(10, 100, 20))
    read = [image_at(Counted(100), 5, k, False)[1] for k in range(100)]
    place = [k for k, index in enumerate(read) if index % 20 == 10][3]  # of the fourth
    for options in ({"threads": 0}, {"threads": 2}):
        iterator = batches(source, seed=5, batch_size=1, mirror=False, max_skipped=3, **options)
        assert len(list(itertools.islice(iterator, place))) == place
        with pytest.raises(UserError) as caught:
            next(iterator)
        iterator.close()
        assert str(caught.value) == (
            f"x.zip/{read[place]}.png cannot be decoded: replace or remove it: "
            "more than config.data.max_skipped = 3 images cannot be read"
        )


def test_a_data_set_that_is_gone_ends_the_reading():
    source = Damaged(100, range(100))
    iterator = batches(source, seed=0, batch_size=4, mirror=False, max_skipped=5)
    with pytest.raises(UserError, match="more than config.data.max_skipped = 5 images cannot"):
        next(iterator)
    iterator.close()


def test_an_image_that_fails_for_a_moment_is_named(caplog):
    class Moody(Counted):
        name, failures = "x.zip", 1

        def __getitem__(self, index):
            if index == 4 and self.failures:
                self.failures -= 1
                raise UserError("x.zip/4.png cannot be read (stale file handle)")
            return super().__getitem__(index)

    take(Moody(10), 5, seed=0, batch_size=4, mirror=False, threads=0, max_skipped=1)
    (record,) = caplog.records
    assert "image 4 of x.zip could not be read for a moment" in record.getMessage()


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"batch_size": 6, "process_count": 4}, "6 images cannot be shared by 4 processes"),
        ({"batch_size": 0}, "0 images cannot"),
        ({"batch_size": 4, "start_image": 6}, "from image 6 in batches of 4: use the batch size"),
        ({"batch_size": 4, "start_image": -4}, "from image -4"),
    ],
)
def test_bad_shares(options, expected):
    with pytest.raises(UserError, match=expected):
        batches(Counted(10), seed=0, mirror=False, **options)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, time
            from inr_gan_jax.data.pipeline import batches
            from inr_gan_jax.data.sources import open_source
            if __name__ == "__main__":
                source = open_source("digits", height=8, width=8, channels=1, labels=False)
                iterator = batches(source, seed=0, batch_size=4, mirror=False, workers=2)
                for _ in range(4):
                    next(iterator)
                print(*[child.pid for child in multiprocessing.active_children()], flush=True)
                time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment()
    )
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2 and all(map(alive, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))
    parent.stdout.close()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but that nobody waited for does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_an_open_iterator_is_silent_when_the_interpreter_ends(tmp_path):
    code = textwrap.dedent(
        """
        from inr_gan_jax.data.pipeline import batches
        from inr_gan_jax.data.sources import open_source
        if __name__ == "__main__":
            source = open_source("digits", height=8, width=8, channels=1, labels=False)
            kept = [batches(source, seed=0, batch_size=4, mirror=True, workers=n) for n in (0, 2)]
            seen = [next(iterator) for iterator in kept]
            print([type(batch["image"]).__name__ for batch in seen])
        """
    )
    (tmp_path / "use.py").write_text(code)
    done = subprocess.run(
        [sys.executable, tmp_path / "use.py"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0 and done.stdout == "['ndarray', 'ndarray']\n" and done.stderr == ""
