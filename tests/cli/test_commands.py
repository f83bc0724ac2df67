"""inr-gan: all commands behind one name, quick to start, and each the module that it names."""

import subprocess
import sys

import pytest
from helpers.environment import ROOT, environment
from PIL import Image

from inr_gan_jax import __main__ as door
from inr_gan_jax import __version__
from inr_gan_jax.cli import commands

PACKAGE = ROOT / "inr_gan_jax"


def run(*words: str, folder=ROOT) -> subprocess.CompletedProcess:
    """`python -m WORDS`."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
    )


def test_every_module_that_runs_is_a_command():
    runs = [
        path for path in PACKAGE.rglob("*.py") if 'if __name__ == "__main__":' in path.read_text()
    ]
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in runs}
    known = {command.module for command in commands.COMMANDS.values()}
    assert {name.removesuffix(".__main__") for name in names} == known | {"__main__"}


def test_help_has_a_line_for_each_command_and_needs_nothing():
    code = (
        "import sys\nfrom inr_gan_jax.__main__ import main\nsys.argv = ['inr-gan', '--help']\n"
        "assert not main()\n"
        "heavy = {'jax', 'numpy', 'absl', 'etils'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == commands.overview()
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert shown == list(commands.COMMANDS)
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    "words, code, out, err",
    [
        ([], None, commands.overview(), ""),
        (["-h"], None, commands.overview(), ""),
        (["--version"], None, f"inr_gan_jax {__version__}", ""),
        (["generte"], 2, "", "no command 'generte'; did you mean \"generate\"?"),
        (["style_mix"], 2, "", 'did you mean "style-mix"?'),
        (["--config=digits", "train"], 2, "", "no command '--config=digits'"),
    ],
)
def test_what_starts_no_command(monkeypatch, capsys, words, code, out, err):
    monkeypatch.setattr(sys, "argv", ["inr-gan", *words])
    assert door.main() == code
    said = capsys.readouterr()
    assert said.out.strip() == out and err in said.err
    assert said.err.count("\n") == bool(err)


@pytest.mark.parametrize(
    "words, module, argv",
    [
        (["generate", "--seeds=1"], "generate", ["--seeds=1"]),
        (["evaluate", "--repeats=2"], "main", ["--mode=evaluate", "--repeats=2"]),
        (["look", "photos"], "data.look", ["photos"]),
    ],
)
def test_what_a_command_is_given(monkeypatch, words, module, argv):
    ran = []
    monkeypatch.setattr(sys, "argv", ["inr-gan", *words])
    monkeypatch.setattr(
        commands.runpy, "run_module", lambda name, **_: ran.append((name, sys.argv[1:]))
    )
    door.main()
    assert ran == [(f"inr_gan_jax.{module}", argv)]


def test_a_command_is_its_module():
    ours, theirs = run("inr_gan_jax", "render", "--help"), run("inr_gan_jax.render", "--help")
    assert ours.returncode == theirs.returncode == 0 and "--dest" in ours.stdout
    assert ours.stdout == theirs.stdout


def test_a_command_that_starts_processes(tmp_path):
    """They import the module that runs, which is not the one that was started."""
    (tmp_path / "in").mkdir()
    for k in range(3):
        Image.new("L", (8, 8), k).save(tmp_path / "in" / f"{k}.png")
    flags = ["--source=in", "--dest=out.zip", "--width=8", "--height=8", "--workers=2"]
    done = run("inr_gan_jax", "prepare", *flags, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("out.zip: 3 images, 8x8")
