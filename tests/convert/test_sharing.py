"""Models given and got in a line: through a folder, and through a hub by its own client library."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import hub as hubs
from helpers.environment import ROOT, environment
from helpers.models import tiny_model, write_checkpoint
from safetensors import safe_open

import inr_gan_jax
from inr_gan_jax import config as configs
from inr_gan_jax.convert import card, sharing
from inr_gan_jax.convert.exports import write_safetensors
from inr_gan_jax.convert.files import convert
from inr_gan_jax.errors import UserError
from inr_gan_jax.foreign import shared
from inr_gan_jax.metrics.results import FILE as METRICS
from inr_gan_jax.storage import hub

FILES = {"model.safetensors", "run.json", "samples.png", "README.md"}
ADDRESS = f"hf://{hubs.USER}/digits"
NAMES, COUNTS = ("zero", "one", "two"), (3, 1, 2)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with classes, measured twice, that was trained far away."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    model = tiny_model(classes=3)
    params, buffers = model.arrays
    w_avg = jax.random.normal(jax.random.key(2), model.w_avg.shape)
    model = model.with_arrays(params, buffers, w_avg)
    model.class_counts = COUNTS
    write_checkpoint(folder, model, class_names=NAMES)
    config = configs.to_plain(model.config)
    record = {
        "identity": {"config.data.content": "abc123"},
        "config": config,
        "command": "python -m inr_gan_jax.main --config=configs/digits.py --workdir=/home/jane/x/d",
    }
    (folder / "run.json").write_text(json.dumps(record))
    measured = [
        {"metric": "fid50k_full", "value": 7.5, "kimg": 1.0, "images": 50000},
        {"metric": "fid50k_full", "value": 4.5, "kimg": 2.0, "images": 50000},
        {"metric": "fid50k_full", "value": 4.25, "kimg": 2.0, "images": 50000},
        {"metric": "pr50k3_full", "value": {"precision": 0.5, "recall": 0.25}, "kimg": 2.0},
        {"metric": "fid50k_full", "value": 4.0, "kimg": 2.0, "ema": 0.1},
    ]
    (folder / METRICS).write_text("".join(json.dumps(line) + "\n" for line in measured))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_GAN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def files(workdir):
    return sharing.files_of(inr_gan_jax.load(workdir), ADDRESS, "apache-2.0")


def assert_same(one, other) -> None:
    """Bit by bit."""
    for a, b in ((one.arrays, other.arrays), (one.w_avg, other.w_avg)):
        ours, theirs = jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b)
        for (path, x), y in zip(ours, theirs, strict=True):
            assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes(), path
    for name in ("class_counts", "class_names", "images_seen", "draws", "num_classes"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.config.model == other.config.model
    assert np.array_equal(one.latents([0, 7]), other.latents([0, 7]))


def test_through_a_folder(workdir, files, tmp_path, cache):
    """Every way to name what was shared opens the same model, and a new run can start from it."""
    model = inr_gan_jax.load(workdir)
    assert model.class_names == NAMES and model.images_seen == 2000
    said = sharing.put(files, tmp_path / "x", private=False, update=False)
    assert {p.name for p in (tmp_path / "x").iterdir()} == FILES and "inr_gan_jax.load" in said[1]
    assert_same(inr_gan_jax.load(tmp_path / "x"), model)
    made = sorted(cache.rglob("manifest.json"))
    assert_same(inr_gan_jax.load(tmp_path / "x" / "model.safetensors"), model)
    assert sorted(cache.rglob("manifest.json")) == made  # by its bytes: converted once
    published = shared.open_shared(inr_gan_jax.model.epath.Path(tmp_path / "x" / shared.FILE))
    assert published.g is None and published.class_counts == list(COUNTS)


def test_draws_of_a_published_model(workdir, tmp_path):
    """A seed stays the image that people know."""
    model = inr_gan_jax.load(workdir)
    model.draws = "numpy"
    write_safetensors(model, tmp_path / "x.safetensors")
    shared_one = inr_gan_jax.load(tmp_path / "x.safetensors")
    assert shared_one.draws == "numpy"
    assert_same(shared_one, model)


def test_files_hold_no_code_and_tell_nothing_of_the_machine(files, tmp_path):
    assert set(files) == FILES
    (tmp_path / "x").write_bytes(files["model.safetensors"])
    with safe_open(tmp_path / "x", "np") as file:
        assert file.metadata()["format"] == shared.FORMAT
    assert files["samples.png"].startswith(b"\x89PNG")
    record = json.loads(files["run.json"])
    assert record["identity"] and record["class_counts"] == list(COUNTS)
    assert configs.parse(record["config"], num_classes=3)
    for name, data in files.items():
        assert b"/home" not in data and str(ROOT).encode() not in data, name


@pytest.mark.parametrize(
    "path, name",
    [("/a/b/photos.zip", "photos.zip"), ("gs://b/photos/", "photos"), ("digits", "digits"),
     ("tfds:cifar10", "tfds:cifar10"), ("hf://a/b", "hf://a/b"), ("", "")],
)  # fmt: skip
def test_names_of_paths(path, name):
    assert card.name_of(path) == name


def test_commands_tell_no_folders():
    given = (
        "python -m inr_gan_jax.main --config=configs/x.py --config.data.source='/my pictures/a b' "
        "--detector_weights=~/w/i.pth,gs://b/v.pth --x=hf://a/b --config.log.writers=a,b"
    )
    assert card.without_folders(given) == (
        "python -m inr_gan_jax.main --config=configs/x.py '--config.data.source=a b' "
        "--detector_weights=i.pth,v.pth --x=hf://a/b --config.log.writers=a,b"
    )
    assert card.without_folders("") == ""


def test_card(files):
    yaml = pytest.importorskip("yaml")
    _, front, text = files["README.md"].decode().split("---\n", 2)
    front = yaml.safe_load(front)
    assert front["license"] == "apache-2.0" and front["library_name"] == "inr_gan_jax"
    (result,) = front["model-index"][0]["results"]
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {
        "fid50k_full": 4.25, "pr50k3_full_precision": 0.5, "pr50k3_full_recall": 0.25,
    }  # fmt: skip
    assert result["dataset"]["name"] == "digits"
    for part in ("(samples.png)", f'inr_gan_jax.load("{ADDRESS}")', "abc123", "2,000 (2 kimg)",
                 "zero, one, two", "--config=configs/digits.py --workdir=d\n",
                 "| `fid50k_full` | 4.25 | 50000 | 2 |"):  # fmt: skip
        assert part in text, part
    assert "| 7.5 |" not in text and "| 4 |" not in text  # of another checkpoint, or average


def test_card_of_what_was_measured_before(workdir):
    model = inr_gan_jax.load(workdir)
    about = {"identity": {}, "command": ""}
    measured = [{"metric": "is50k", "value": 2.0, "kimg": 1.0}]
    text = card.card(model, "x", "other", about, measured, shown=16)
    assert "model-index" not in text and "earlier checkpoints" in text and "| 2 |  | 1 |" in text
    assert "Nothing was measured" in card.card(model, "x", "other", about, [], shown=16)


def test_a_damaged_file_is_a_line(files, tmp_path):
    whole = files["model.safetensors"]
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    say = header["__metadata__"]
    config = json.loads(say["config"])

    def with_header(**changes):
        text = json.dumps(header | {"__metadata__": say | changes}).encode()
        return len(text).to_bytes(8, "little") + text + whole[end:]

    config["model"]["w_dim"] = 16
    cases = {
        "damaged": [whole[:-7], with_header(images="many"), with_header(config="{")],
        "in this model": [with_header(config=json.dumps(config))],
        "without the network's description": [with_header(format="pt")],
    }
    for says, versions in cases.items():
        for data in versions:
            (tmp_path / "x.safetensors").write_bytes(data)
            with pytest.raises(UserError, match=says) as error:
                inr_gan_jax.load(tmp_path / "x.safetensors")
            assert "\n" not in str(error.value)


MISTAKES = {
    (None, "x"): "nobody may use",
    ("My Licence", "x"): "short name",
    ("mit", "used"): "in use",
    ("mit", "file"): "in use",
    ("mit", "hf://digits"): "must be hf://user/model",
    ("mit", "hf://jane/a/b"): "must be hf://user/model",
}


def test_mistakes_are_told_before_anything_is_made(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    (tmp_path / "file").touch()
    for (licence, to), says in MISTAKES.items():
        to = to if to.startswith("hf://") else tmp_path / to
        with pytest.raises(UserError, match=says) as error:
            sharing.check(to, licence, private=False, update=False)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="--private is for a hub"):
        sharing.check(tmp_path / "x", "mit", private=True, update=False)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: inr_gan_jax.load(ADDRESS),
                 lambda: sharing.check(ADDRESS, "mit", private=False, update=False)):  # fmt: skip
        with pytest.raises(UserError, match="pip install huggingface_hub"):
            call()


# With a hub: the real client library against a stand-in.


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A hub, which the library takes for the real one: it reads its environment once."""
    with hubs.serving() as server, pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name, value in (server.environment | {"HF_HOME": str(home)}).items():
            patch.setenv(name, value)
        skipped = "the extra `hf` is not installed"
        constants = pytest.importorskip("huggingface_hub.constants", reason=skipped)
        assert server.address == constants.ENDPOINT
        server.home = home
        yield server


@pytest.fixture
def served(running, monkeypatch):
    """The hub with nothing in it; jane is logged in."""
    monkeypatch.setenv("HF_TOKEN", hubs.TOKEN)
    running.models.clear()
    running.requests.clear()
    running.down = False
    return running


def send(files, to=ADDRESS, **options) -> list[str]:
    options = {"private": False, "update": False} | options
    sharing.check(to, "mit", **options)
    return sharing.put(files, to, **options)


def test_through_a_hub(served, workdir, tmp_path, cache):
    """The command, its files, `load`; the token goes to the hub and nowhere else."""
    command = [sys.executable, "-m", "inr_gan_jax.share", f"--checkpoint={workdir}",
               f"--to={ADDRESS}", "--licence=apache-2.0"]  # fmt: skip
    env = environment(cache)
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"{served.address}/{hubs.USER}/digits" in done.stdout and ADDRESS in done.stdout
    (sent,) = served.models[f"{hubs.USER}/digits"]
    assert set(sent) == FILES and served.large  # large files as such
    model = inr_gan_jax.load(workdir)
    assert_same(inr_gan_jax.load(ADDRESS), model)
    convert(ADDRESS, tmp_path / "again.safetensors")
    assert_same(inr_gan_jax.load(tmp_path / "again.safetensors"), model)
    assert any(token == f"Bearer {hubs.TOKEN}" for _, _, token in served.requests)
    told = [done.stdout.encode(), done.stderr.encode(), *sent.values()]
    kept = [p for root in (tmp_path, served.home, workdir) for p in root.rglob("*") if p.is_file()]
    assert any("hub" in p.parts for p in kept)
    for data in told + [p.read_bytes() for p in kept]:
        assert hubs.TOKEN.encode() not in data


def test_without_a_network(served, files, capsys, tmp_path):
    """What was fetched once opens again, and that it may be old is said; else an error says why."""
    send(files)
    model = inr_gan_jax.load(ADDRESS)
    assert "no hub" not in capsys.readouterr().err
    served.down = True
    assert_same(inr_gan_jax.load(ADDRESS), model)
    assert "no hub can be reached" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be reached .*, and no copy is here") as error:
        inr_gan_jax.load(ADDRESS, cache_dir=tmp_path / "other")
    assert "\n" not in str(error.value)


def test_revisions(served, files, workdir):
    """A name that is taken is refused, or gets another revision; each opens as it was."""
    send(files)
    before, _ = served.commit_of(f"{hubs.USER}/digits", "main")
    with pytest.raises(UserError, match="exists: give another name, or --update"):
        send(files)
    with pytest.raises(UserError, match="exists: give another name, or --update"):
        sharing.put(files, ADDRESS, private=False, update=False)  # taken since it was checked
    model = inr_gan_jax.load(workdir)
    newer = model.with_arrays(*model.arrays, jnp.ones_like(model.w_avg), images_seen=3000)
    newer.checkpoint = model.checkpoint
    send(sharing.files_of(newer, ADDRESS, "mit"), update=True)
    assert inr_gan_jax.load(ADDRESS).images_seen == 3000
    assert_same(inr_gan_jax.load(f"{ADDRESS}@{before}"), model)


def test_a_hub_s_refusals_are_one_line(served, files, monkeypatch):
    send(files)
    send({"README.md": files["README.md"]}, "hf://jane/empty")
    load, put = inr_gan_jax.load, lambda to: send(files, to)
    stranger = "hf_" + "a" * 30
    cases = [
        (load, "hf://jane/none", hubs.TOKEN, "no such model"),
        (load, f"{ADDRESS}@none", hubs.TOKEN, "no such revision"),
        (load, "hf://jane/empty", hubs.TOKEN, "holds no model.safetensors"),
        (load, "hf://jane/a..b", hubs.TOKEN, "no name that a hub takes"),
        (load, "hf://jane", hubs.TOKEN, "must be hf://user/model"),
        (put, f"{ADDRESS}@main", hubs.TOKEN, "leave @ away"),
        (put, "hf://jane/other", "", "known users only: log in"),
        (put, "hf://jane/other", stranger, "may not do that there: log in"),
        (put, "hf://joe/other", hubs.TOKEN, "may not do that there: log in"),
    ]
    for act, address, token, says in cases:
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UserError, match=says) as error:
            act(address)
        message = str(error.value)
        assert message.startswith(address) and "\n" not in message
        assert hubs.TOKEN not in message and stranger not in message
    assert set(served.models) == {"jane/digits", "jane/empty"}
    raised = RuntimeError(f"no such header: Bearer {hubs.TOKEN}")
    assert "Bearer ...)" in str(hub._explained(raised, hub.address_of(ADDRESS)))
