"""--config: names of what comes with the package, and files, which win."""

import pytest
from absl import flags
from absl.testing import flagsaver
from helpers.environment import ROOT

from inr_gan_jax.cli.config import CONFIG, SHIPPED, names, parse_flags
from inr_gan_jax.errors import UserError

OURS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
MINE = "from inr_gan_jax.config import base\ndef get_config(): return base('cips', z_dim={})\n"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty one, where no configuration was parsed yet."""
    monkeypatch.chdir(tmp_path)
    with flagsaver.flagsaver():
        flags.FLAGS["config"].value = None
        yield tmp_path


def parsed(*words: str):
    """(the configuration, the file that it is from) of a command line."""
    assert parse_flags(["main", *words]) == ["main"]
    return CONFIG.value, flags.FLAGS["config"].config_filename


def test_the_package_has_those_of_the_repository():
    assert names() == OURS and (SHIPPED / "digits.py").samefile(ROOT / "configs" / "digits.py")


@pytest.mark.parametrize("named", ["digits", "digits.py", "configs/digits.py", "configs/digits"])
@pytest.mark.parametrize("joined", [True, False])
def test_a_name_is_found_anywhere(named, joined):
    config, file = parsed(*([f"--config={named}"] if joined else ["--config", named]))
    assert config.data.source == "digits" and file == str(SHIPPED / "digits.py")


def test_files_win(folder):
    (folder / "configs").mkdir()
    (folder / "configs" / "digits.py").write_text(MINE.format(5))
    (folder / "configs" / "mine.py").write_text(MINE.format(6))
    (folder / "ffhq.py").write_text(MINE.format(7))
    for named, z_dim in [("digits", 5), ("configs/digits.py", 5), ("mine", 6), ("ffhq.py", 7)]:
        assert parsed(f"--config={named}")[0].model.z_dim == z_dim
    assert parsed("--config=ffhq")[1] == str(SHIPPED / "ffhq.py")


def test_a_folder_of_that_name_is_no_configuration(folder):
    (folder / "digits").mkdir()
    assert parsed("--config=digits")[1] == str(SHIPPED / "digits.py")


@pytest.mark.parametrize("named", ["digit", "configs/digit.py"])
def test_unknown_names_tell_what_there_is(named):
    with pytest.raises(UserError) as caught:
        parsed(f"--config={named}")
    said = str(caught.value)
    assert said.startswith(f"--config={named}: no such file or name; there are ")
    assert ", ".join(OURS) in said and said.endswith('did you mean "digits"?')


def test_a_path_is_nothing_else():
    with pytest.raises(UserError, match="no/digits.py: .*No such file"):
        parsed("--config=no/digits.py")
