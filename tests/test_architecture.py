"""What may know what, read from the imports of every module."""

import ast
import subprocess
import sys

import pytest
from helpers.environment import ROOT

PACKAGE = ROOT / "inr_gan_jax"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# Modules (with all that is under them) -> what they must not import.
FORBIDDEN = {
    "models": ["{}.train", "{}.data", "{}.metrics", "{}.render", "absl", "ml_collections"],
    "models.inr": ["flax", "{}.models.hypernet"],
    "models.coords": ["flax", "{}.models.hypernet"],
    "models.fourier": ["flax", "{}.models.hypernet"],
    "train.losses": ["{}.models"],
    "train.step": ["{}.data", "{}.checkpoint", "{}.monitor"],
    "data": ["jax", "flax", "{}.models", "{}.train"],
    "metrics": ["{}.train"],
    "render": ["{}.train"],
    "": ["tensorflow"],
}
CONFIG_READERS = {"inr_gan_jax.main", "inr_gan_jax.config"}
PLUMBING = {"inr_gan_jax.errors", "inr_gan_jax.data.pipeline"}  # parses flags; grain reads flags


def imports(module: str) -> set[str]:
    """Dotted names of all that a module imports, at its top or in a function."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: say whole names"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name: str, parent: str) -> bool:
    return f"{name}.".startswith(f"{parent}.")


@pytest.mark.parametrize("part", FORBIDDEN)
def test_nothing_points_back(part):
    part_name = "inr_gan_jax" + (f".{part}" if part else "")
    banned = [name.format("inr_gan_jax") for name in FORBIDDEN[part]]
    found = [
        f"{module} imports {name}"
        for module in MODULES
        if within(module, part_name)
        for name in sorted(imports(module))
        if any(within(name, ban) for ban in banned)
    ]
    assert not found


def is_command(module: str) -> bool:
    return 'if __name__ == "__main__":' in MODULES[module].read_text() or module.endswith(
        "__main__"
    )


def test_configdict_and_flags_stop_at_the_border():
    for module in MODULES:
        names = imports(module)
        if module not in CONFIG_READERS:
            assert not any(within(name, "ml_collections") for name in names), module
        if any(within(name, ban) for name in names for ban in ("absl.flags", "absl.app")):
            assert module in CONFIG_READERS | PLUMBING or is_command(module), module


def test_files_and_functions_stay_readable():
    for module, path in MODULES.items():
        text = path.read_text()
        assert len(text.splitlines()) <= 350, f"{module}: two ideas share a room"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno
                assert length < 80, f"{module}.{node.name} has {length} lines"


def test_importing_the_package_costs_nothing():
    code = (
        "import sys, inr_gan_jax\n"
        "heavy = {'jax', 'flax', 'numpy', 'tensorflow', 'grain', 'orbax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "inr_gan_jax.load, inr_gan_jax.Model, inr_gan_jax.UserError\n"
        "import inr_gan_jax.train.loop, inr_gan_jax.generate, inr_gan_jax.data.prepare\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
