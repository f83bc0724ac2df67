"""What may know what, by room, read from the imports of every module."""

import ast
import subprocess
import sys

import pytest
from helpers.environment import ROOT

PACKAGE = ROOT / "inr_gan_jax"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}

# Every room, from the ground up: it may import those above its own line in this list, none below.
ROOMS = (
    "errors",  # what a user got wrong
    "pictures",  # pixels as bytes
    "runtime",  # devices, processes, signals
    "storage",  # what stays on disk
    "models",  # the paper
    "config",  # what a run is told
    "foreign",  # files of other programs
    "data",  # images to learn from
    "kernels",  # the paper, fused
    "render",  # what a function that is an image allows
    "model",  # the object that users hold
    "metrics",  # how good a generator is
    "costs",  # what compiled programs cost
    "train",  # the recipe, the loop, a run
    "doctor",  # what training would cost
    "project",  # a photo's place in a model
    "convert",  # checkpoints and exports
    "view",  # functions to look at
)
# What else a room, or a module, must not import, of ours or of others.
FORBIDDEN = {
    "models": ["inr_gan_jax.pictures", "inr_gan_jax.runtime", "inr_gan_jax.storage", "absl",
               "ml_collections"],
    "models.inr": ["flax", "inr_gan_jax.models.hypernet"],
    "models.coords": ["flax", "inr_gan_jax.models.hypernet"],
    "models.fourier": ["flax", "inr_gan_jax.models.hypernet"],
    "pictures": ["jax"],
    "storage": ["inr_gan_jax.models"],
    "kernels": ["inr_gan_jax.config", "inr_gan_jax.data"],
    "data": ["jax", "flax", "inr_gan_jax.models", "inr_gan_jax.config", "inr_gan_jax.foreign"],
    "render": ["inr_gan_jax.config", "inr_gan_jax.data", "inr_gan_jax.foreign"],
    "costs": ["inr_gan_jax.model", "inr_gan_jax.models", "inr_gan_jax.metrics"],
    "train.losses": ["inr_gan_jax.models"],
    "train.step": ["inr_gan_jax.data", "inr_gan_jax.storage", "inr_gan_jax.train.monitor"],
    "": ["tensorflow"],
}  # fmt: skip
DOORS = {"__main__", "main", "generate", "style_mix", "video", "keypoints", "share", "model",
         "errors"}  # fmt: skip
CONFIG_READERS = {"main", "cli.config", "config.parse"}
PLUMBING = {"data.pipeline"}  # grain reads flags


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
    return not parent or f"{name}.".startswith(f"{parent}.")


def is_command(module: str) -> bool:
    text = MODULES[module].read_text()
    return 'if __name__ == "__main__":' in text or module.endswith("__main__")


def room_of(module: str) -> str:
    return module.split(".")[0]


def test_doors_stay_at_the_top_and_nothing_else_does():
    assert {path.stem for path in PACKAGE.glob("*.py")} == DOORS | {"__init__"}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms | {"errors", "model"} == {*ROOMS, "cli"}


def test_every_room_says_what_belongs_there():
    for room in PACKAGE.glob("*/__init__.py"):
        assert ast.get_docstring(ast.parse(room.read_text())), (
            f"{room.parent.name} has no docstring"
        )


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_know_those_above_them_in_the_list(room):
    allowed = {*ROOMS[: ROOMS.index(room) + 1], "__version__"}
    found = [
        f"{module} imports {name}"
        for module in MODULES
        if room_of(module) == room and not is_command(module)
        for name in sorted(imports(module))
        if name.startswith("inr_gan_jax.") and name.split(".")[1] not in allowed
    ]
    assert not found


@pytest.mark.parametrize("part", FORBIDDEN)
def test_what_must_not_be_known(part):
    found = [
        f"{module} imports {name}"
        for module in MODULES
        if within(module, part) and not (part and is_command(module))
        for name in sorted(imports(module))
        if any(within(name, ban) for ban in FORBIDDEN[part])
    ]
    assert not found


def test_nothing_imports_in_a_circle():
    """Within a room, too: an import inside a function hides a circle, and does not mend it."""
    names = {f"inr_gan_jax.{module}" for module in MODULES}

    def known(module: str) -> set[str]:
        found = set()
        for name in imports(module):
            whole = name if name in names else name.rpartition(".")[0]
            if whole in names and whole != f"inr_gan_jax.{module}":
                found.add(whole.removeprefix("inr_gan_jax."))
        return found

    graph, done = {module: known(module) for module in MODULES}, set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_configdict_and_flags_stop_at_the_doors():
    for module in MODULES:
        names = imports(module)
        if module not in CONFIG_READERS:
            assert not any(within(name, "ml_collections") for name in names), module
        if room_of(module) == "cli" or is_command(module):
            continue
        flags = ("inr_gan_jax.cli", "absl.flags", "absl.app")
        if any(within(name, ban) for name in names for ban in flags):
            assert module in CONFIG_READERS | PLUMBING, module


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
