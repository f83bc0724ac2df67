"""The lock of a workdir: one run at a time, and a killed one lets go."""

import json
import os
import subprocess
import sys
import threading

import pytest
from etils import epath

from inr_gan_jax.errors import UserError
from inr_gan_jax.train import lease
from inr_gan_jax.train.lease import FILE, Lease


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "RENEWAL", 0.05)
    monkeypatch.setattr(lease, "PATIENCE", 2.0)
    monkeypatch.setattr(lease, "SETTLING", 0.1)


def holder(path: epath.Path) -> dict:
    return json.loads((path / FILE).read_text())


def test_the_second_run_is_refused_until_the_first_is_done(tmp_path):
    path = epath.Path(tmp_path)
    first = Lease(path).take()
    with pytest.raises(UserError, match=f"another run is at work in .* .process {os.getpid()} on"):
        Lease(path).take()
    first.release()
    assert not (path / FILE).exists()
    Lease(path).take().release()


def test_a_dead_process_of_this_machine_gives_way_at_once(tmp_path):
    path = epath.Path(tmp_path)
    code = (
        "import os, sys; from etils import epath; from inr_gan_jax.train.lease import Lease\n"
        "Lease(epath.Path(sys.argv[1])).take(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert holder(path)["token"]
    said = []
    Lease(path).take(said.append).release()
    assert said == []


@pytest.mark.parametrize("alive", [True, False])
def test_on_another_machine_renewal_tells(tmp_path, alive):
    path = epath.Path(tmp_path)
    there = {"token": "theirs", "renewed": 0, "host": "elsewhere", "pid": 1, "started": "m p 1"}
    (path / FILE).write_text(json.dumps(there))
    over = threading.Event()

    def renew():
        count = 0
        while alive and not over.wait(0.2):
            count += 1
            (path / FILE).write_text(json.dumps(there | {"renewed": count}))

    renewing = threading.Thread(target=renew)
    renewing.start()
    said, ours = [], Lease(path)
    try:
        if alive:
            with pytest.raises(UserError, match="another run is at work .* on elsewhere"):
                ours.take(said.append)
        else:
            ours.take(said.append)
            assert holder(path)["token"] == ours.token
    finally:
        over.set()
        renewing.join()
        ours.release()
    assert "watching for 2 s" in said[0]


def test_a_lock_that_was_taken_is_lost_and_left_to_its_taker(tmp_path):
    path = epath.Path(tmp_path)
    first = Lease(path).take()
    (path / FILE).write_text(json.dumps(holder(path) | {"token": "theirs"}))
    first._renewing.join(10)
    assert first.lost
    first.release()
    assert holder(path)["token"] == "theirs"


def test_of_two_at_once_one_has_it(tmp_path):
    path, outcomes = epath.Path(tmp_path), []

    def take():
        try:
            outcomes.append(Lease(path).take(lambda _: None))
        except UserError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    holders = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert len(holders) == 1
    holders[0].release()


def test_a_torn_lock_is_nobodys(tmp_path):
    (tmp_path / FILE).write_text('{"tok')
    Lease(epath.Path(tmp_path)).take().release()


def test_who_cannot_see_the_lock_shares_no_workdir(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    first = Lease(epath.Path(tmp_path / "a")).take()
    assert Lease(epath.Path(tmp_path / "a")).sees(first.token)
    assert not Lease(epath.Path(tmp_path / "b")).sees(first.token)
    first.release()
