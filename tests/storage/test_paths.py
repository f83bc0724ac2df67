"""Cloud paths: faults of the network are told from faults of files."""

import pytest
from etils import epath
from helpers.bucket import make_bucket

from inr_gan_jax.errors import UserError
from inr_gan_jax.storage import manifest
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.paths import reached


@pytest.fixture
def bucket(monkeypatch):
    return make_bucket(monkeypatch)


@pytest.mark.parametrize(
    "path, raised, seen",
    [
        ("gs://bucket/a", RuntimeError("no\nroute"), (OSError, "gs://bucket/a .* no route$")),
        ("gs://bucket/a", FileNotFoundError("b"), (FileNotFoundError, "^b$")),
        ("gs://bucket/a", ImportError("gcsfs"), (UserError, "needs a package .*: gcsfs")),
        ("/disk/a", RuntimeError("a mistake"), (RuntimeError, "^a mistake$")),
    ],
)
def test_what_a_network_raises_is_an_oserror(path, raised, seen):
    with pytest.raises(seen[0], match=seen[1]), reached(path):
        raise raised


def test_a_cloud_that_does_not_answer_is_no_damage(bucket, tmp_path, monkeypatch):
    for folder in (epath.Path("gs://bucket/7"), epath.Path(tmp_path)):
        with replaced(folder / "x") as file:
            file.write(b"x")
        manifest.write(folder)
        assert manifest.find_damage(folder, "") is None
    bucket.rm("/bucket/7/x")
    assert "x is missing" in manifest.find_damage(epath.Path("gs://bucket/7"), "")

    def fail(_):
        raise ConnectionError("no route")

    monkeypatch.setattr(manifest, "_digest", fail)
    assert "x is missing or unreadable" in manifest.find_damage(epath.Path(tmp_path), "")
    with pytest.raises(OSError, match="no route"):
        manifest.find_damage(epath.Path("gs://bucket/7"), "")
