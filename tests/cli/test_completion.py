"""Completion by the shells themselves, on a terminal: keys in, command lines out."""

import contextlib
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import own_flags
from helpers.environment import environment

from inr_gan_jax.cli.commands import COMMANDS
from inr_gan_jax.cli.config import names
from inr_gan_jax.config import KEYS

# What is typed, \t for the key that completes, and what the command then gets.
TYPED = {
    "gene\t--form\tp\t": "generate --format=png",
    "rend\t--over\t--des\tru\tdi\t --tab\tcl\t": (
        "render --overwrite --dest=runs/digits --tables=clamp"
    ),
    "generate --checkpoint ru\tdi\t": "generate --checkpoint runs/digits",
    "video --lo\t--spa\tlat\t": "video --loop --space=latent",
    "proj\t--det\ta.p\t,b.p\t": "project --detector_weights=a.pth,b.pth",
    "train --config=fas\t--config.tr\tbat\t8": (
        "train --config=fashion_mnist --config.train.batch_size=8"
    ),
    "doctor --config digi\t--topo\tv": "doctor --config digits --topology=v",
    "train --config=own\t": "train --config=own.py",
    "look ru\tdi\t --dec\t": "look runs/digits --decode",
    "completion fi\t": "completion fish",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Some files, and what `inr-gan completion` prints for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "runs" / "digits").mkdir(parents=True)
    for name in ("a.pth", "b.pth", "own.py"):
        (folder / name).write_text("")
    code = """
import contextlib
from inr_gan_jax.cli.commands import COMMANDS, start
for shell in ("bash", "zsh", "fish"):
    with open(f"script.{shell}", "w") as file, contextlib.redirect_stdout(file):
        with contextlib.suppress(SystemExit):
            start(COMMANDS["completion"], [shell])
"""
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), check=True)
    return folder


def typed(command: list[str], lines: list[str], folder: Path) -> list[str]:
    """What an interactive shell's `inr-gan` is given when lines are typed.

    The shell's own file of commands is folder/.zshrc.
    """
    given = folder / f"given.{command[0]}"
    setup = ["autoload -U compinit; compinit -u -D"] if command[0] == "zsh" else []
    setup += [f"source script.{command[0]}", f'inr-gan() {{ echo "$*" >>{given.name}; }}']
    (folder / ".zshrc").write_text("\n".join([*setup, ""]))
    ours, theirs = pty.openpty()
    env = os.environ | {"TERM": "dumb", "ZDOTDIR": str(folder), "HISTFILE": "", "INPUTRC": "none"}
    shell = subprocess.Popen(
        command, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, "".join(f"{line}\n" for line in (*lines, "exit")).encode())
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert shell.wait(60) == 0, shown.decode()
    return given.read_text().splitlines()


@pytest.mark.parametrize(
    "shell", [["bash", "--noprofile", "--rcfile", ".zshrc", "-i"], ["zsh", "-d", "-i"]],
    ids=["bash", "zsh"],
)  # fmt: skip
def test_on_a_terminal(folder, shell):
    require(shell[0])
    lines = typed(shell, [f"inr-gan {keys}" for keys in TYPED], folder)
    found = [" ".join(word.rstrip("/") for word in line.split()) for line in lines]
    assert found == list(TYPED.values())


def require(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")


def offered(shell: str, lines: list[str], folder: Path) -> dict[str, list[str]]:
    """What a shell offers after each line, less = and / at its end, as the alphabet has it."""
    require(shell)
    code = {
        "bash": 'COMP_LINE=$line COMP_POINT=${#line}; _inr_gan; printf "%s\n" "${COMPREPLY[@]}"',
        "fish": "complete -C $line; echo",
    }[shell]
    read, begin, end = {
        "bash": ("IFS= read -r line", "do", "done"),
        "fish": ("read line", "", "end"),
    }[shell]
    loop = f"source script.{shell}\nwhile {read}\n{begin} {code}; echo ---\n{end}"
    said = subprocess.run(
        [shell, "-c", loop], cwd=folder, input="".join(f"inr-gan {line}\n" for line in lines),
        capture_output=True, text=True,
    )  # fmt: skip
    assert not said.stderr
    parts = [part.split("\n") for part in said.stdout.split("---\n")[:-1]]
    found = [sorted({line.split("\t")[0].rstrip("/=") for line in part} - {""}) for part in parts]
    return dict(zip(lines, found, strict=True))


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_what_is_offered(folder, shell):
    prefix = "" if shell == "bash" else "--config="
    modules = ["generate", "render", "style-mix", "project", "keypoints", "convert"]
    after = {
        "train --config.": [f"--{key}=" for key in sorted(KEYS)],
        "train --config=s": [f"{prefix}{name}" for name in ("script.bash", "script.fish",
                                                            "script.zsh", "small_data")],
        "train --config=f": [f"{prefix}{name}" for name in names() if name.startswith("f")],
        "generate --seeds=": [],
        "generate --dtype ": ["bfloat16", "float32"],
        "generate --config.": [],
        "doctor --si": [],
        "report --si": ["--sizes="],
        "train --si": [],
        "nothing --": [],
    }  # fmt: skip
    found = offered(shell, ["trai", *after, *(f"{name} --" for name in modules)], folder)
    assert found["trai"] == ["train"]
    for line, expected in after.items():
        assert found[line] == [word.rstrip("/=") for word in expected], line
    for name in modules:
        known = own_flags(COMMANDS[name].module)
        assert found[f"{name} --"] == [f"--{flag}" for flag in known], name


def test_bash_script_is_sound(folder):
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, "-s", "bash", "script.bash"], cwd=folder, check=True)
