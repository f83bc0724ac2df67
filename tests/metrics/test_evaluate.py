"""Measuring a model: against slow versions, over processes, with classes, with a cache."""

import functools
import json
import logging
import os
import subprocess
import sys
import textwrap
from dataclasses import replace

import jax
import numpy as np
import pytest
import safetensors.numpy
import scipy.linalg
import scipy.special
from absl import logging as absl_logging
from helpers import reference
from helpers.environment import ROOT, environment
from helpers.models import tiny_model, write_checkpoint

from inr_gan_jax import main
from inr_gan_jax.config import EvaluateConfig, base, to_plain
from inr_gan_jax.config.metric_names import Metric, parse_names
from inr_gan_jax.data.sources import open_source
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics import detectors, evaluate, pixel, ppl, statistics, vgg, weights
from inr_gan_jax.metrics.evaluate import Evaluator, collapsed
from inr_gan_jax.metrics.images import Generated, Real, to_uint8
from inr_gan_jax.metrics.neighbours import precision_recall
from inr_gan_jax.metrics.results import FILE, describe
from inr_gan_jax.storage import paths

SETTINGS = EvaluateConfig(metrics="fd_pixel100_full", batch_size=16)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INR_GAN_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def digits(labels=False):
    return open_source("digits", height=16, width=16, channels=1, labels=labels)


def draft_of(model, **evaluate):
    plain = to_plain(model.config)
    config = base("inr_gan", height=16, width=16, channels=1)
    config.update(plain)
    config.data.labels = bool(model.num_classes)
    config.evaluate.update(evaluate)
    return config


def slow_distance(model, source, count) -> float:
    """Image by image, whole arrays, a general square root of a matrix."""
    real = Real(source)
    images = real.read(np.arange(real.count))["image"]
    params = pixel.fit([images])
    generated = Generated(model)
    made = []
    for k in range(count):
        z, classes = generated.latents(Generated.read(0)(np.asarray([k])))
        chosen = None if classes is None else np.argmax(classes, axis=-1)
        made.append(to_uint8(model.images(z, classes=chosen))[0])
    features = [np.asarray(pixel.features(params, np.stack(x)), np.float64) for x in (images, made)]
    means = [x.mean(0) for x in features]
    covariances = [np.cov(x.T) for x in features]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    traces = sum(np.trace(c) for c in covariances)
    return float(np.square(means[0] - means[1]).sum() + traces - 2 * np.trace(root))


@pytest.mark.parametrize("classes", [0, 10])
def test_the_pixel_distance_is_what_it_says(classes):
    model, source = tiny_model(classes=classes), digits(labels=bool(classes))
    (result,) = Evaluator(model, source, SETTINGS).measure(model)
    assert result["value"] == pytest.approx(slow_distance(model, source, 100), rel=1e-4)
    assert result["metric"] == "fd_pixel100_full" and "fid" not in json.dumps(result).lower()
    assert result["data"]["sha256"] == source.content_hash and result["seeds"] == [0]
    assert "fd_pixel100_full: " in describe(result)


def test_batches_and_repeats():
    """Batch sizes move nothing but rounding; repeats are other latents, and say how they vary."""
    model, source = tiny_model(), digits()
    values = []
    for size in (7, 64):
        evaluator = Evaluator(model, source, replace(SETTINGS, batch_size=size))
        (result,) = evaluator.measure(model, repeats=2)
        assert len(set(result["values"])) == 2 and result["seeds"] == [0, 1]
        assert result["value"] == pytest.approx(np.mean(result["values"]))
        assert result["spread"] == pytest.approx(np.std(result["values"], ddof=1))
        values.append(result["values"])
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_a_damaged_cache_is_rebuilt_with_a_warning(own_cache, caplog):
    model, source = tiny_model(), digits()
    evaluator = Evaluator(model, source, SETTINGS)
    (first,) = evaluator.measure(model)
    files = sorted((own_cache / "statistics").iterdir())
    assert len(files) == 2  # the basis and the moments
    before = [file.read_bytes() for file in files]
    for file, data in zip(files, before, strict=True):
        file.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, logger=absl_logging.get_absl_logger().name):
        (again,) = Evaluator(model, source, SETTINGS).measure(model)
    assert again["value"] == first["value"]
    assert all(str(file) in caplog.text for file in files)
    assert [file.read_bytes() for file in files] == before


def test_real_images_are_read_once(monkeypatch):
    model, source = tiny_model(), digits()
    evaluator = Evaluator(model, source, SETTINGS)
    (first,) = evaluator.measure(model)
    monkeypatch.setattr(Real, "read", None)
    (again,) = evaluator.measure(model)
    assert again["value"] == first["value"]


def test_classes_have_distances_and_a_collapse_is_seen():
    """At truncation 0 each class is one image: its diversity is 0, whatever the whole's is."""
    model, source = tiny_model(classes=10), digits(labels=True)
    model = model.with_arrays(*model.arrays, np.zeros((10, 8), np.float32))
    settings = replace(SETTINGS, metrics="fd_pixel300_full", per_class=True)
    (free,) = Evaluator(model, source, settings).measure(model)
    (flat,) = Evaluator(model, source, replace(settings, truncation=0.0)).measure(model)
    assert set(free["classes"]) == set(free["diversity"]) == {str(c) for c in range(10)}
    assert all(value > 0 for value in free["classes"].values())
    assert max(flat["diversity"].values()) < 1e-6 < min(free["diversity"].values())
    assert len(collapsed(flat, 0.1)) == 10
    assert collapsed({"diversity": {"0": 0.5, "1": 0.05, "2": None}}, 0.1) == ["1"]


WORKER = """
    import json, sys, jax
    sys.path.insert(0, {tests!r})
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize("localhost:{port}", 2, int(sys.argv[1]))
    from metrics.test_evaluate import measured_in_parts
    print(json.dumps(measured_in_parts()))
"""


def measured_in_parts() -> list:
    settings = replace(SETTINGS, metrics="fd_pixel50_full", batch_size=8, per_class=True)
    model = tiny_model(classes=10)
    results = Evaluator(model, digits(labels=True), settings).measure(model)
    return [[r["value"], r["classes"], r["diversity"]] for r in results]


def test_two_processes_equal_one(tmp_path):
    port = 20000 + os.getpid() % 20000
    code = textwrap.dedent(WORKER.format(tests=str(ROOT / "tests"), port=port))
    env = environment(tmp_path / "theirs")
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], env=env, stdout=-1, stderr=-1,
                         text=True) for i in range(2)
    ]  # fmt: skip
    said = []
    one = measured_in_parts()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append(json.loads(out.splitlines()[-1]))
    first, second = said
    assert second == []  # process 0 alone speaks
    flat = [jax.tree.leaves(x, is_leaf=lambda v: v is None) for x in (one, first)]
    assert len(flat[0]) > 20
    np.testing.assert_allclose(*[np.array(x, float) for x in flat], rtol=1e-6)


def test_evaluate_mode_writes_lines_and_curves(tmp_path, capsys):
    model = tiny_model(classes=10)
    write_checkpoint(tmp_path / "run", model)
    draft = draft_of(model, metrics="fd_pixel20_full,fd_pixel30", batch_size=16)
    main.evaluate(draft, tmp_path / "run")
    found = main.evaluate(draft, tmp_path / "run" / "checkpoints" / "1", repeats=2)
    lines = [json.loads(line) for line in (tmp_path / "run" / FILE).read_text().splitlines()]
    names = ["fd_pixel20_full", "fd_pixel30"]
    assert [line["metric"] for line in lines] == names * 2 and lines[2:] == found
    assert lines[0]["kimg"] == 2 and lines[0]["checkpoint"].endswith("run/checkpoints/1")
    assert any(p.name.startswith("events") for p in (tmp_path / "run").iterdir())
    assert "fd_pixel30: " in capsys.readouterr().out


def test_a_collapsed_class_is_warned_of(tmp_path, caplog):
    model = tiny_model(classes=10)
    write_checkpoint(tmp_path / "run", model)
    draft = draft_of(model, metrics="fd_pixel60", collapse_below=1e-4)
    main.evaluate(draft, tmp_path / "run")
    assert "collapse" not in caplog.text
    draft.evaluate.truncation = 0.0
    main.evaluate(draft, tmp_path / "run")
    assert "images of class 0, 1, " in caplog.text and "a collapse?" in caplog.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluate.metrics": ""}, "nothing to measure"),
        ({"evaluate.metrics": "fid50k_full"}, "--detector_weights"),
        ({"evaluate.metrics": "fid"}, "is no metric"),
        ({"data.labels": False}, "has 10 classes, the data 0"),
        ({"model.height": 8, "model.width": 8}, "has height 16, the data 8"),
    ],
)
def test_mistakes(changes, said, tmp_path):
    model = tiny_model(classes=10)
    write_checkpoint(tmp_path / "run", model)
    draft = draft_of(model, metrics="fd_pixel20")
    draft.update_from_flattened_dict(changes)
    with pytest.raises(UserError) as error:
        main.evaluate(draft, tmp_path / "run")
    assert said in str(error.value) and "\n" not in str(error.value)
    assert paths.cache_root() == tmp_path / "cache"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory) -> list[str]:
    """Files with the tensors of a narrow VGG16 and of LPIPS."""
    folder, tensors = tmp_path_factory.mktemp("weights"), reference.tensors()
    for name, part in (("vgg", "vgg"), ("lin", "lpips")):
        chosen = {k: v for k, v in tensors.items() if k.startswith("lin") == (part == "lpips")}
        safetensors.numpy.save_file(chosen, folder / f"{name}.safetensors")
    return [str(path) for path in sorted(folder.iterdir())]


def slow_rates(model, space, sampling, count, lpips) -> list[float]:
    """Image by image; the path's place is the library's own draw."""
    generated, found = Generated(model), []
    for k in range(count):
        batch = Generated.read(0)(np.asarray([k]))
        a, b = (np.asarray(generated.latents(batch, purpose)[0], np.float64) for purpose in (0, 1))
        t = float(ppl._uniform(batch["seed"][0], batch["number"][0])) if sampling == "full" else 0.0
        pair = []
        for s in (t, t + ppl.EPSILON):
            if space == "z":
                a1, b1 = (x / np.linalg.norm(x) for x in (a, b))
                angle = np.arccos(np.sum(a1 * b1))
                z = (np.sin((1 - s) * angle) * a1 + np.sin(s * angle) * b1) / np.sin(angle)
                ws = model.styles(z.astype(np.float32))
            else:
                wa, wb = (model.styles(x.astype(np.float32)) for x in (a, b))
                ws = wa + (wb - wa) * s
            pair.append(np.repeat(model.images(ws=ws), 3, axis=-1))
        found.append(float(lpips(*pair)[0]) / ppl.EPSILON**2)
    return found


def test_path_lengths(narrow):
    """Steps of 1e-4 are at the edge of float32: the mean is compared, not each rate."""
    model, source = tiny_model(), digits()
    names = ["ppl16_zfull", "ppl16_wend"]
    settings = replace(SETTINGS, metrics=",".join(names))
    results = list(Evaluator(model, source, settings, narrow).measure(model))
    assert [result["metric"] for result in results] == names
    load = {k: weights.load(k, narrow) for k in ("vgg16", "lpips")}
    network = vgg.lpips_from_torch(load["vgg16"][0], load["lpips"][0])

    lpips = jax.jit(functools.partial(vgg.lpips, network))
    for result, kind in zip(results, (("z", "full"), ("w", "end")), strict=True):
        slow = slow_rates(model, *kind, 16, lpips)
        assert result["value"] == pytest.approx(statistics.ppl(slow), rel=0.05)
        assert result["detector"] == {"name": "lpips", "identity": load["lpips"][1]}


def test_every_published_metric_of_given_detectors(narrow, monkeypatch):
    """Inception is stood in for by a linear map; what becomes of its features is the real thing."""
    rng = np.random.default_rng(0)
    params = {"2048": rng.standard_normal((256, 12)), "logits": rng.standard_normal((256, 5))}
    params = jax.tree.map(lambda a: jax.numpy.asarray(a, "float32"), params)

    def apply(params, images):
        x = images.reshape(len(images), -1) / 255.0
        return {"features": x @ params["2048"], "logits": x @ params["logits"]}

    def open_detector(name, source, load):
        if name == "inception":
            return detectors.Detector(name, "linear", params, apply)
        return detectors.open_detector(name, source, load)

    monkeypatch.setattr(evaluate, "open_detector", open_detector)
    model, source = tiny_model(), digits()
    few = (*parse_names("fid60_full,kid60_full,is60"), Metric("pr60", "pr", 60, full=True))
    monkeypatch.setattr(evaluate, "parse_names", lambda _: few)
    settings = replace(SETTINGS, batch_size=32)
    found = {r["metric"]: r for r in Evaluator(model, source, settings, narrow).measure(model)}
    everything = Real(source).read(np.arange(len(source)))["image"]
    make, read = jax.jit(Generated(model).images), Generated.read(0)
    made = [make(Generated.arrays(model), read(n))[0] for n in np.split(np.arange(60), [32])]
    made = np.concatenate(made)  # in its batches: rounding decides a pixel here and there
    real, fake = (jax.device_get(apply(params, images)) for images in (everything, made))
    moments = [np.mean, lambda x, axis: np.cov(x.T)]
    (m1, s1), (m2, s2) = ([f(x["features"].astype(float), axis=0) for f in moments]
                          for x in (real, fake))  # fmt: skip
    root = scipy.linalg.sqrtm(s1 @ s2).real
    fid = np.square(m1 - m2).sum() + np.trace(s1 + s2 - 2 * root)
    assert found["fid60_full"]["value"] == pytest.approx(fid, rel=1e-4)
    p = scipy.special.softmax(fake["logits"].astype(float), axis=1)
    scores = [np.exp(np.mean(np.sum(q * np.log(q / q.mean(0)), 1))) for q in np.split(p, 10)]
    assert found["is60"]["value"] == pytest.approx({"mean": np.mean(scores), "std": np.std(scores)},
                                                   rel=1e-4)  # fmt: skip
    kid = statistics.kernel_distance(real["features"], fake["features"])
    assert found["kid60_full"]["value"] == pytest.approx(kid, rel=0.1)  # other subsets of real ones
    network = vgg.from_torch(weights.load("vgg16", narrow)[0])
    pair = [np.asarray(vgg.features(network, images))
            for images in (Real(source, 60).read(np.arange(60))["image"], made)]  # fmt: skip
    expected = dict(zip(("precision", "recall"), precision_recall(*pair), strict=True))
    assert found["pr60"]["value"] == pytest.approx(expected, abs=0.02)


def test_few_images_are_said_beside_the_number():
    """A statistic on fewer images than it needs tells that, and how many there were."""
    model = tiny_model(classes=10)
    settings = replace(SETTINGS, metrics="fd_pixel50_full")
    evaluator = Evaluator(model, digits(labels=True), settings)
    names = ("fid50k_full", "fid200", "kid500_full", "kid5k_full", "is50", "fd_pixel50_full")
    few = {name: evaluator._too_few(parse_names(name)[0]) for name in names}
    assert few["fid50k_full"].startswith(
        "50,000 generated and 1,797 real images for 2,048 features"
    )
    assert few["fid200"].startswith("200 generated and 200 real images for 2,048 features")
    assert few["kid500_full"].startswith("500 generated and 1,797 real images: its subsets")
    assert few["kid5k_full"] == few["is50"] == few["fd_pixel50_full"] == ""
