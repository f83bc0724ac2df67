"""--config: names of what comes with the package, and files, which win."""

import pytest
from helpers.environment import ROOT

from inr_gan_jax.cli.config import SHIPPED, located, names
from inr_gan_jax.errors import UserError

OURS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty one, as the current."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def file_of(named: str) -> str:
    """What a command gets for --config=NAMED, among other flags."""
    before, after = ["main", "--workdir=x"], ["--config.train.recipe=best"]
    found = located([*before, f"--config={named}", *after])
    assert located([*before, "--config", named, *after]) == [
        *before, "--config", found[2].removeprefix("--config="), *after
    ]  # fmt: skip
    assert found[:2] == before and found[3:] == after
    return found[2].removeprefix("--config=")


def test_the_package_has_those_of_the_repository():
    assert names() == OURS and (SHIPPED / "digits.py").samefile(ROOT / "configs" / "digits.py")


@pytest.mark.parametrize("named", ["digits", "digits.py", "configs/digits.py", "configs/digits"])
def test_a_name_is_found_anywhere(named):
    assert file_of(named) == str(SHIPPED / "digits.py")
    assert file_of(f"{named}:x") == f"{SHIPPED / 'digits.py'}:x"  # an argument of get_config


def test_files_win(folder):
    (folder / "configs").mkdir()
    (folder / "ffhq").mkdir()  # a folder, a workdir perhaps, is none
    for file in ("configs/digits.py", "configs/mine.py", "ffhq.py"):
        (folder / file).write_text("")
    for named in ("digits", "configs/digits.py"):
        assert file_of(named) == "configs/digits.py"
    assert file_of("mine") == "configs/mine.py"
    assert file_of("ffhq.py") == "ffhq.py"
    assert file_of("ffhq") == str(SHIPPED / "ffhq.py")


@pytest.mark.parametrize("named", ["digit", "configs/digit.py"])
def test_unknown_names_tell_what_there_is(named):
    with pytest.raises(UserError) as caught:
        file_of(named)
    said = str(caught.value)
    assert said.startswith(f"--config={named}: no such file or name; there are ")
    assert ", ".join(OURS) in said and said.endswith('did you mean "digits"?')


def test_a_path_is_itself():
    assert file_of("no/digits.py") == "no/digits.py"
    assert located(["main", "--config"]) == ["main", "--config"]  # for absl to refuse
