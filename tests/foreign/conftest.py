"""What the tests of this folder share."""

from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path):
    def write_bytes(data: bytes, name: str = "x.pkl") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write_bytes
