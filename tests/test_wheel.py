"""The wheel: what is in it, and that it is enough where there is no repository."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from helpers.environment import ROOT, environment

LISTS = """
from setuptools import Distribution
wheel = Distribution()
wheel.script_name = "pyproject.toml"
wheel.parse_config_files(["pyproject.toml"])
build = wheel.get_command_obj("build_py")
build.ensure_finalized()
print("\\n".join(build.get_outputs(include_bytecode=False)))
"""


def expected() -> set[str]:
    """Files of the repository that someone without it needs: the package, its page, its configs."""
    package = ROOT / "inr_gan_jax"
    ours = {*package.rglob("*.py"), *(package / "view").glob("s*/*")}
    names = {str(path.relative_to(ROOT)) for path in ours if path.is_file()}
    return names | {f"inr_gan_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}


def test_what_is_in_it():
    done = subprocess.run(
        [sys.executable, "-c", LISTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    listed = {os.path.relpath(line, "build/lib") for line in done.stdout.split()}
    assert listed == expected()


@pytest.mark.slow
def test_it_is_enough(tmp_path):
    """The quickstart, shortened, in an empty folder."""
    source, site, folder = tmp_path / "source", tmp_path / "site", tmp_path / "folder"
    folder.mkdir()
    for name in ("inr_gan_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={tmp_path}", str(source)]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        listed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {"inr_gan_jax/configs/digits.py", "inr_gan_jax/view/site/page.html"} <= listed
    assert not [name for name in listed if not name.startswith("inr_gan_jax/")]
    subprocess.run([*pip, "install", "--no-deps", f"--target={site}", str(wheel)], check=True)

    env = environment(tmp_path / "cache", PYTHONPATH=site)
    for words in (
        "train --config=digits --config.train.kimg=1 --config.evaluate.kimg=0",
        "generate --checkpoint=runs/digits --seeds=0-1 --outdir=out",
        "view --checkpoint=runs/digits --seeds=0-1 --export=site",
    ):
        command = [str(site / "bin" / "inr-gan"), *words.split()]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(list((folder / "out").glob("*.png"))) == 2
    assert (folder / "site" / "index.html").stat().st_size > 10_000
