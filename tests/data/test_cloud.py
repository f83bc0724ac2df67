"""Data in a cloud is copied to a local disk: once, whole, by one process, or not at all."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from helpers.bucket import make_bucket
from helpers.environment import environment
from helpers.samples import LABELS, open_rgb, picture, pixels

from inr_gan_jax.data import cloud
from inr_gan_jax.data.prepare import Fit, prepare
from inr_gan_jax.errors import UserError


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A cloud that counts what is copied from it, beside an empty cache."""
    monkeypatch.setenv("INR_GAN_JAX_CACHE", str(tmp_path / "cache"))
    made = make_bucket(monkeypatch)
    made.copied, plain = [], made.get_file

    def get_file(rpath, lpath, **options):
        made.copied.append(rpath)
        plain(rpath, lpath, **options)

    made.get_file = get_file
    return made


@pytest.fixture
def filled(bucket, make_folder, to_zip):
    """The same images in gs://bucket/photos and gs://bucket/x.zip."""
    folder = make_folder(LABELS)
    (folder / "notes.txt").write_text("not an image")
    bucket.put(str(folder), "/bucket/photos", recursive=True)
    bucket.put(str(to_zip(folder)), "/bucket/x.zip")
    return bucket


@pytest.mark.parametrize("url", ["gs://bucket/photos", "gs://bucket/photos/", "gs://bucket/x.zip"])
def test_copied_once(filled, make_folder, tmp_path, url):
    for _ in range(2):
        source = open_rgb(url, labels=True)
        assert [label for _, label in source] == [2, 0, 2, 1, 4]
        np.testing.assert_array_equal(source[3][0], pixels(3))
    expected = ["/bucket/x.zip"] if url.endswith("zip") else [
        f"/bucket/photos/{name}" for name, _ in LABELS
    ] + ["/bucket/photos/dataset.json"]  # fmt: skip
    assert sorted(filled.copied) == sorted(expected)
    copies = [p for p in (tmp_path / "cache" / "data").iterdir() if p.is_dir()]
    assert len(copies) == 1 and copies[0].name.startswith(url.rstrip("/").rsplit("/", 1)[1] + "-")
    local = tmp_path / "photos" if "photos" in url else tmp_path / "x.zip"
    assert open_rgb(local, labels=True).content_hash == source.content_hash


def test_kinds_that_training_does_not_read_are_told_before_anything_is_copied(filled):
    filled.pipe("/bucket/photos/b/5.heic", b"a phone's")
    with pytest.raises(UserError, match="photos holds 1 files of kinds .* \\(b/5.heic, ...\\)"):
        open_rgb("gs://bucket/photos")
    assert filled.copied == []


def test_the_user_reads_the_name_he_gave(filled):
    filled.pipe("/bucket/photos/b/3.png", b"damaged")
    with pytest.raises(UserError, match="^gs://bucket/photos/b/3.png is no image"):
        open_rgb("gs://bucket/photos")
    with pytest.raises(UserError, match="^the images of gs://bucket/x.zip are 6x6, but"):
        open_rgb("gs://bucket/x.zip", height=8, width=8)
    for missing in ("gs://bucket/none", "gs://bucket/none.zip"):
        with pytest.raises(UserError, match=f"^{missing} does not exist: check"):
            open_rgb(missing)
    filled.pipe("/bucket/x.tar", b"tar")
    with pytest.raises(UserError, match="^gs://bucket/x.tar is neither a folder nor a .zip"):
        open_rgb("gs://bucket/x.tar")
    assert "/bucket/x.tar" not in filled.copied


def test_what_changed_is_copied_again(filled, tmp_path):
    before = open_rgb("gs://bucket/photos")
    picture(7).save(tmp_path / "new.png")
    filled.put(str(tmp_path / "new.png"), "/bucket/photos/1.png")
    after = open_rgb("gs://bucket/photos")
    np.testing.assert_array_equal(after[1][0], pixels(7))
    np.testing.assert_array_equal(before[1][0], pixels(1))  # which another process may be reading


def test_the_folder_can_be_chosen_and_must_be_local(filled, tmp_path, monkeypatch):
    open_rgb("gs://bucket/x.zip", data_dir=str(tmp_path / "here"))
    assert len(list((tmp_path / "here").glob("x.zip-*/x.zip"))) == 1
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("INR_GAN_JAX_CACHE", "gs://bucket/cache")
    with pytest.raises(
        UserError, match="copied to a local disk, which gs://.* is not: set data_dir"
    ):
        open_rgb("gs://bucket/x.zip")
    prepare("gs://bucket/photos", str(tmp_path / "y.zip"), Fit(6, 6), data_dir=str(tmp_path))
    assert len(open_rgb(tmp_path / "y.zip")) == 5


def test_a_disk_that_is_too_small(filled, tmp_path, monkeypatch):
    size = filled.info("/bucket/x.zip")["size"]
    free = [size - 1]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free[0]))
    with pytest.raises(
        UserError, match="x.zip needs 0.0 GB in .*/cache/data, where 0.0 GB are free"
    ):
        open_rgb("gs://bucket/x.zip")
    assert filled.copied == []
    free[0] = size
    assert len(open_rgb("gs://bucket/x.zip")) == 5


def test_an_interrupted_copy_goes_on(filled, tmp_path):
    plain = filled.get_file

    def broken(rpath, lpath, **options):
        plain(rpath, lpath, **options)
        if rpath.endswith("b/3.png"):
            os.truncate(lpath, 10)

    filled.get_file = broken
    with pytest.raises(UserError, match=r"cannot be copied to .* \(b/3.png came incomplete\)"):
        open_rgb("gs://bucket/photos")
    assert not [p for p in (tmp_path / "cache/data").iterdir() if (p / "0.png").exists()
                and not p.name.endswith(".partial")]  # fmt: skip
    first, filled.copied[:] = list(filled.copied), []
    filled.get_file = plain
    assert len(open_rgb("gs://bucket/photos")) == 5
    assert "/bucket/photos/b/3.png" in first and "/bucket/photos/b/3.png" in filled.copied
    assert len(filled.copied) + len(first) == 6 + 1


def test_faults_of_the_network_are_one_line(filled):
    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    filled.get_file = fail
    with pytest.raises(UserError, match="^gs://bucket/x.zip cannot be copied .*no route to host"):
        open_rgb("gs://bucket/x.zip")
    filled.exists = fail
    with pytest.raises(UserError, match=r"^gs://bucket/x.zip cannot be reached \(no route to host"):
        open_rgb("gs://bucket/x.zip")


def test_threads_and_processes_share_one_copy(filled):
    """flock is between open files, so threads stand for processes."""
    plain, begun = filled.get_file, threading.Barrier(3)

    def slow(rpath, lpath, **options):
        threading.Event().wait(0.2)
        plain(rpath, lpath, **options)

    filled.get_file = slow
    lengths = []

    def read():
        begun.wait()
        lengths.append(len(open_rgb("gs://bucket/x.zip")))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [5, 5, 5] and filled.copied == ["/bucket/x.zip"]


def test_a_killed_process_leaves_the_lock_to_others(tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        from inr_gan_jax.data import cloud
        with open(sys.argv[1], "wb") as lock:
            cloud._take(lock, "gs://x", True)
            print("mine", flush=True)
            time.sleep(60)
        """
    )
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment())
    assert holder.stdout.readline() == "mine\n"
    taken = threading.Event()

    def take():
        with open(tmp_path / "lock", "wb") as lock:
            cloud._take(lock, "gs://x", False)
            taken.set()

    waiting = threading.Thread(target=take)
    waiting.start()
    assert not taken.wait(0.2)
    holder.send_signal(signal.SIGKILL)
    assert taken.wait(10)
    waiting.join()
    holder.communicate()


def test_names_that_are_no_paths_are_left_out(filled, tmp_path):
    """A cloud's names are any text: none may lead out of the copy."""
    data = filled.store["/bucket/photos/1.png"]
    found = filled.find("/bucket/photos", detail=True)
    for name in (f"/{tmp_path}/evil.png", "/../../../evil.png"):
        filled.store[f"/bucket/photos{name}"] = data
        found[f"/bucket/photos{name}"] = {"name": f"/bucket/photos{name}", "size": data.size}
    filled.find = lambda *_, **__: found
    assert len(open_rgb("gs://bucket/photos")) == 5
    assert not list(tmp_path.rglob("evil.png"))
