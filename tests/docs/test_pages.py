"""README and pages: links lead somewhere, every command and key exists, code does what it says."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from absl import flags
from helpers import pages
from helpers.commands import command, own_flags
from helpers.environment import GOLDEN, ROOT, environment
from helpers.models import tiny_model, write_checkpoint
from helpers.pages import DOCS, PAGES, code_of, does_what_it_says, shapes

import inr_gan_jax
from benchmarks import NAMED, SUITES
from inr_gan_jax.cli import config as configured
from inr_gan_jax.cli.arguments import parse_seeds, parse_size, parse_window
from inr_gan_jax.cli.commands import COMMANDS
from inr_gan_jax.config import KEYS, parse
from inr_gan_jax.errors import UserError
from inr_gan_jax.render.image import ContinuousImage

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
TARGETS = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
STARTS = r"(python|inr-gan|make|pip) \S|launch/\w"  # of commands between words
FOREIGN = {"no-deps", "gpus-per-task"}  # flags of pip and Slurm that pages speak of
TINY = {"z_dim": 32, "w_dim": 32, "input_resolution": 8}  # as digits have it
VALUES = {"seeds": parse_seeds, "rows": parse_seeds, "cols": parse_seeds, "layers": parse_seeds,
          "corners": parse_seeds, "size": parse_size, "window": parse_window,
          "target_window": parse_window}  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in pages.links(page):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        path = PAGES[page].parent / name if name else PAGES[page]
        assert path.is_file(), link
        inside = path.absolute().is_relative_to(DOCS) or not PAGES[page].is_relative_to(DOCS)
        assert inside, f"{link} leads out of the site"
        if anchor:
            assert anchor in pages.anchors(pages.named(path)), link


def test_every_page_is_in_the_navigation():
    def files(entry):
        if isinstance(entry, str):
            return [entry]
        parts = entry.values() if isinstance(entry, dict) else entry
        return [file for part in parts for file in files(part)]

    nav = files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(set(nav)) == len(nav)
    assert set(nav) == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}


def test_the_reference_describes_what_there_is():
    names = {page: pages.described(page) for page in PAGES}
    for name in (name for found in names.values() for name in found):
        with contextlib.suppress(ModuleNotFoundError):
            if importlib.util.find_spec(name):  # a command: told, not imported
                assert ast.get_docstring(ast.parse(Path(source(name)).read_text())), name
                continue
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute).__doc__, name
    shown = {name.removesuffix(".__main__") for name in names["docs/reference/commands.md"]}
    assert shown == {f"inr_gan_jax.{command.module}" for command in COMMANDS.values()}


def source(module: str) -> str:
    return importlib.util.find_spec(module).origin


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the commands and the code of pages find: data, runs, published files."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("configs", "benchmarks", "launch"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("requirements.txt", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "plain.py").write_text(pages.fences("docs/family.md")[0].text)
    (folder / "network-snapshot.pkl").symlink_to(GOLDEN / "network-snapshot.pkl")
    return folder


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Of all commands and scripts."""
    modules = {command.module for command in COMMANDS.values()}
    known = {flag for module in modules for flag in own_flags(module)} | {"config"}
    scripts = [path.read_text() for path in (ROOT / "launch").iterdir()]
    return known | flags_in(*scripts) | bench_flags("run") | bench_flags("gpu") | {"help"}


def flags_in(*texts: str) -> set[str]:
    return {flag for text in texts for flag in re.findall(r"--([a-z_]+)", text)}


def bench_flags(name: str) -> set[str]:
    """The flags that benchmarks/NAME.py defines."""
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    defines = [c for c in calls if c.func.attr.startswith("DEFINE_") or c.func.attr == "path"]
    return {call.args[0].value for call in defines if call.args}


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page, folder, known_flags, monkeypatch):
    monkeypatch.chdir(folder)
    found = pages.commands(page)
    for code in pages.inline(page):
        if re.match(STARTS, code):
            words = [unbracketed(word) for word in code.replace("\\|", "|").split()]
            found += [words] if any(w[0] == "-" and w != "-m" for w in words) else []
            check_name(words)
        elif match := re.match(r"--([\w.-]+)", code):
            name = match[1]
            assert {name, name.removeprefix("no")} & (known_flags | {*KEYS} | FOREIGN), code
        elif re.match(r"config\.[a-z_]+\.", code):
            assert code.split("=")[0].strip() in KEYS, code
    for words in found:
        words = [word.replace("'", "") for word in words if word != "..." and word != "COMMAND..."]
        try:
            check(words, monkeypatch)
        except (UserError, flags.Error) as error:
            raise AssertionError(f"{' '.join(words)}: {error}") from error


def unbracketed(word: str) -> str:
    """What may be left out stands in brackets: `[--only=PATTERNS]`."""
    word = word.removeprefix("[")
    return word[:-1] if word.endswith("]") and word.count("]") > word.count("[") else word


def check_name(words: list[str]) -> None:
    """Of a command that is only mentioned: there is one of this name."""
    if words[0] == "inr-gan":
        assert words[1] in {*COMMANDS, "COMMAND", "--help"}, words
    elif words[:2] == ["python", "-m"] and words[2].split(".")[0] in ("inr_gan_jax", "benchmarks"):
        name = re.sub(r"^inr_gan_jax\.", "", words[2])
        modules = {command.module for command in COMMANDS.values()}
        assert name in modules | {"benchmarks.run", "benchmarks.gpu", "inr_gan_jax"}, words
    elif words[0] == "make":
        check(words, None)
    elif words[0].startswith("launch/"):
        assert (ROOT / words[0]).is_file(), words


def check(words: list[str], monkeypatch) -> None:
    """Raises where a command, a flag, a value, a file or a target is none."""
    first, rest = words[0], words[1:]
    if first in ("python", ".venv/bin/python"):
        check_python(rest, monkeypatch)
    elif first == "inr-gan":
        if rest and rest[0] not in ("--help", "COMMAND"):
            entry = COMMANDS[rest[0]]
            operands = [f"--{entry.operand}={word}" for word in rest[1:] if word[0] != "-"]
            given = [word for word in rest[1:] if word[0] == "-"]
            check_flags(entry.module, [*entry.arguments, *operands, *given], monkeypatch)
    elif first == "make":
        targets = [word for word in rest if "=" not in word]
        assert set(targets) <= set(TARGETS), words
        for path in re.findall(r"tests/\S+", " ".join(rest)):
            assert (ROOT / path).exists(), path
    elif first == "pip":
        check_pip(rest)
    elif first.startswith("launch/"):
        check_launcher(words, monkeypatch)
    elif first == "sbatch":
        check_launcher(words[words.index("launch/slurm.sbatch") :], monkeypatch)
    elif first == "envsubst":
        assert Path(rest[0].removeprefix("<")).is_file(), words
    else:
        assert words == ["source", ".venv/bin/activate"], f"a command that is not checked: {words}"


def check_python(words: list[str], monkeypatch) -> None:
    if words[0] != "-m":
        assert words[0] == "docs/pictures.py", words
        known = re.findall(r"^def (\w+)", (DOCS / "pictures.py").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(known), words
        return
    package, _, name = words[1].partition(".")
    if package == "benchmarks":
        assert flags_in(*words[2:]) <= bench_flags(name), words
        for word in words[2:]:
            if word.startswith("--suite="):
                assert set(word[8:].split(",")) <= {*SUITES, *NAMED}, words
    elif package == "inr_gan_jax":
        if name == "data.look":
            words = [f"--source={w}" if w[0] != "-" and w in words[2:] else w for w in words]
        check_flags(name, words[2:], monkeypatch)
    else:
        assert importlib.util.find_spec(words[1]), words


def check_flags(name: str, words: list[str], monkeypatch) -> None:
    """As the command itself does: absl's flags, and what --config holds with its overrides."""
    argv = ["command", *words]
    with command(name):
        flags.FLAGS.unparse_flags()
        for flag in list(flags.FLAGS):
            flags.FLAGS[flag].unparse()
            if flag.startswith("config."):  # overrides of the command before
                delattr(flags.FLAGS, flag)
        monkeypatch.setattr(sys, "argv", argv)
        wants_help = "--help" in argv
        if name in ("main", "doctor") and not wants_help:
            left = configured.parse_flags(argv)
            if configured.CONFIG.value:
                parse(configured.CONFIG.value)
        else:
            left = ["command"] if wants_help else flags.FLAGS(argv)
        assert left == ["command"], f"unexpected arguments {left[1:]}"
        for flag, parsed in VALUES.items():
            if flag in flags.FLAGS and (given := flags.FLAGS[flag].value):
                parsed(",".join(given) if isinstance(given, list) else given)


def check_launcher(words: list[str], monkeypatch) -> None:
    script = ROOT / words[0]
    assert script.is_file(), words
    at = words.index("python") if "python" in words else len(words)
    assert flags_in(*words[1:at]) <= flags_in(script.read_text()) | {"help", "dry_run"}, words
    if at < len(words):
        check(words[at:], monkeypatch)


def check_pip(words: list[str]) -> None:
    assert words[0] == "install", words
    for flag, word in zip(words, words[1:], strict=False):
        if flag in ("-r", "-c"):
            assert (ROOT / word).is_file(), words
        elif match := re.fullmatch(r"\.\[(.*)\]", word):
            assert set(match[1].split(",")) <= EXTRAS.keys(), words
        elif not word.startswith("-") and word not in (".", "dist/*.whl"):
            assert any(r.startswith(word) for rs in EXTRAS.values() for r in rs), words


WITH_CODE = [p for p in PAGES if any(f.language == "python" for f in pages.fences(p))]


@pytest.mark.parametrize("page", WITH_CODE)
def test_code_calls_what_there_is(page):
    """Names and arguments of the public objects; the code itself runs in the tests below."""
    owners = {"inr_gan_jax": inr_gan_jax, "model": inr_gan_jax.Model, "image": ContinuousImage}
    calls = [node for node in ast.walk(ast.parse(code_of(page))) if isinstance(node, ast.Call)]
    for call in calls:
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
            owner = owners.get(call.func.value.id)
            if owner is None:
                continue
            function = getattr(owner, call.func.attr)
            bound = [None] * inspect.isclass(owner)  # self
            inspect.signature(function).bind(
                *bound, *call.args, **{word.arg: word.value for word in call.keywords}
            )


def test_three_lines(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_checkpoint(folder / "runs" / "digits", tiny_model("inr_gan_any", classes=10, **TINY))
    assert shapes(code_of("README.md")) == {"images": ["16", "16", "16", "1"]}
    does_what_it_says("README.md")


def test_the_family_of_the_page(folder, monkeypatch):
    """Its function is the same at points and on the grid, and comes back from a checkpoint."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    example, use = [f.text for f in pages.fences("docs/family.md") if f.language == "python"]
    assert len(example.splitlines()) < 100
    from inr_gan_jax.config import check as rules
    from inr_gan_jax.model import Model
    from inr_gan_jax.models import families

    for table in (families.FAMILIES, families.SPECS, rules.DEFINING):
        monkeypatch.setitem(table, "plain", None)  # and is gone afterwards
    plain = importlib.import_module("plain")
    monkeypatch.delitem(sys.modules, "plain")
    config = parse(plain.get_config(), num_classes=10)
    model = Model(config, {}, {}, np.zeros((10, 32), np.float32), class_counts=[1] * 10)
    arrays = jax.jit(model.networks.init_generator)(jax.random.key(0))
    model = model.with_arrays(*arrays, model.w_avg)
    write_checkpoint(folder / "runs" / "plain", model)

    names = {}
    exec(compile(use, "docs/family.md", "exec"), names)
    image, side = names["image"], np.linspace(-1, 1, 16)
    assert names["pixels"].shape == (64, 64, 1) and names["slopes"].shape == (1, 1, 2)
    x, y = np.meshgrid(side, side[::-1])
    there = image.points(np.stack([x.ravel(), y.ravel()], -1)).reshape(16, 16, 1)
    np.testing.assert_allclose(there, model.images(seeds=[0], classes=3)[0], atol=1e-4)


def test_what_blocks_add_is_the_image():
    """The picture of levels (docs/pictures.py): contributions, each by itself, sum up to it."""
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    image = tiny_model("inr_gan_any", classes=10, **TINY).image(seed=0, classes=3)
    blocks = [block.name for block in image.params.spec.blocks]
    alone = [type(image)(pictures.alone(image.params, name)).render(24, 24) for name in blocks]
    assert all(np.abs(part).max() > 1e-3 for part in alone)
    np.testing.assert_allclose(sum(alone), image.render(24, 24), atol=1e-4)


# What is made shorter where pages are typed; what needs more than a CPU and this folder.
SHORT = {
    "inr_gan_jax.main": ["--config.train.kimg=0.3", "--config.evaluate.kimg=0",
                         "--config.evaluate.metrics=fd_pixel100_full", "--config.log.grid_size=20"],
    "inr_gan_jax.project": ["--steps=3"],
    "inr_gan_jax.video": ["--frames=3"],
}  # fmt: skip
NOT_HERE = re.compile(
    r"launch/|sbatch|ffhq|small_data|topology|=any_scale |any_scale\w*\.py|hf:|wandb|gs:"
    r"|benchmarks|shapes|network-snapshot|inr_gan_jax\.view --checkpoint=\S+$|--decode"
)


@pytest.mark.slow
def test_typed_by_a_newcomer(tmp_path):
    """The commands of the pages, one after the other, in one folder, with short trainings."""
    from PIL import Image
    from sklearn.datasets import load_digits, load_sample_images

    (tmp_path / "photos").mkdir()
    flower = Image.fromarray(load_sample_images().images[1])
    for k in range(24):
        flower.crop((8 * k, 4 * k, 8 * k + 200, 4 * k + 150)).save(tmp_path / "photos" / f"{k}.jpg")
    digit = Image.fromarray(np.uint8(load_digits().images[5] * 255 / 16)).resize((16, 16))
    digit.save(tmp_path / "photo.png")
    Image.new("L", (16, 16), 255).save(tmp_path / "mask.png")
    csv = next(f.text for f in pages.fences("docs/tasks/project.md") if f.language == "text")
    (tmp_path / "points.csv").write_text(csv)
    (tmp_path / "plain.py").write_text(pages.fences("docs/family.md")[0].text)

    learn = ["python", "-m", "inr_gan_jax.main", "--config=digits"]
    typed = [learn, *(words for page in PAGES for words in pages.commands(page))]
    done, failed = [], []
    for words in typed:
        if words[:2] != ["python", "-m"] or NOT_HERE.search(" ".join(words)) or words in done:
            continue
        done.append(words)
        report = "--mode=report" in words
        short = ["--images=20"] if report else SHORT.get(words[2], [])
        short = short[:1] if "keep_best" in " ".join(words) else short  # it names its metric
        ran = run_python(*words[1:], *short, folder=tmp_path)
        failed += [(words, ran.stderr)] if ran.returncode else []
    assert not failed
    assert len(done) > 25
    assert list((tmp_path / "out").glob("*.png")) and (tmp_path / "huge.tif").stat().st_size

    (tmp_path / "network-snapshot.pkl").symlink_to(GOLDEN / "network-snapshot.pkl")
    for page in WITH_CODE:  # of the models and files that the commands made
        if page not in ("docs/family.md", "docs/share.md"):  # its own test; the hub
            code = f"from helpers.pages import does_what_it_says; does_what_it_says({page!r})"
            ran = run_python("-c", code, folder=tmp_path)
            assert ran.returncode == 0, (page, ran.stderr)


def run_python(*words: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment(folder / "cache"),
        capture_output=True, text=True,
    )  # fmt: skip
