"""Files that say something about the project: each agrees with what it is about."""

import re
import tomllib

import pytest
import yaml
from helpers.environment import ROOT

import inr_gan_jax

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOW = ROOT / ".github" / "workflows" / "tests.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def targets_named(text: str) -> set[str]:
    """Of `make X` in code, of a step that runs it, and of a bare `test-X` in code."""
    return {*re.findall(r"(?:`|run: )make ([a-z-]+)", text), *re.findall(r"`(test-[a-z-]+)`", text)}


def test_pythons_are_those_that_the_package_says():
    prefix = "Programming Language :: Python :: "
    said = [c.removeprefix(prefix) for c in PROJECT["classifiers"] if c.startswith(f"{prefix}3.")]
    assert PROJECT["requires-python"] == f">={said[0]}"
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == said
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        assert f"Python {said[0]} to {said[-1]}" in (ROOT / name).read_text()


@pytest.mark.parametrize(
    "path", [WORKFLOW, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))],
    ids=lambda path: path.name,
)  # fmt: skip
def test_targets_exist(path):
    named = targets_named(path.read_text())
    assert named and named <= TARGETS


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == inr_gan_jax.__version__
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    newest = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == inr_gan_jax.__version__


def test_what_the_image_copies_exists_and_is_let_through():
    lines = DOCKERFILE.read_text().splitlines()
    copied = {s for line in lines if line.startswith("COPY ") for s in line.split()[1:-1]}
    assert "inr_gan_jax" in copied
    for source in copied:
        assert (ROOT / source).exists()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        source for source in copied if "/" not in source
    }


@pytest.mark.parametrize("name", ["docker/Dockerfile", "launch/README.md"])
def test_extras_of_the_image_exist(name):
    asked = re.findall(r"EXTRAS=([a-z0-9,]+)", (ROOT / name).read_text())
    assert asked
    for extras in asked:
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_image_starts_our_command():
    assert f'ENTRYPOINT ["{next(iter(PROJECT["scripts"]))}"]' in DOCKERFILE.read_text()
