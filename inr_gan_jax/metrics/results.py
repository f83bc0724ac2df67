"""What was measured of a run: told on the console, in TensorBoard, and as a line of JSON each."""

import itertools
import json
import logging
from collections.abc import Callable, Iterable, Sequence

from etils import epath
from tqdm import tqdm

from inr_gan_jax.config.writer_names import mirrors_of
from inr_gan_jax.errors import UserError
from inr_gan_jax.metrics.evaluate import Evaluator, check_data, collapsed
from inr_gan_jax.model import Model, load
from inr_gan_jax.storage.atomic import replaced
from inr_gan_jax.storage.writers import writer_of

FILE = "metrics.jsonl"


class Results:
    """Measures a run's generator and writes what comes out, on process 0, into its workdir."""

    def __init__(
        self,
        evaluator: Evaluator,
        workdir: epath.PathLike,
        writer,
        collapse_below: float,
        say: Callable[[str], None] = tqdm.write,
        keep: Callable[[epath.Path, bytes], bool] | None = None,
    ):
        """`writer` (a SummaryWriter, or None) draws the curves, `say` is told what comes out.

        `keep` writes a file: whether it did, or will later; by default now, or it raises OSError.
        """
        self._evaluator, self._writer, self._say = evaluator, writer, say
        self._keep, self._mine = keep or _keep, []
        self._path = epath.Path(workdir) / FILE
        self._below = collapse_below
        self.known: set[tuple[str, float]] = set()  # (metric, kimg): not to be told again

    def measure(
        self, model: Model, checkpoint: str, repeats: int = 1, ema: float | None = None
    ) -> list[dict]:
        """All metrics of a model; `checkpoint` (and `ema`, a width) say which it is.

        Warns of collapsed classes.
        """
        found = []
        for result in self._evaluator.measure(model, repeats):
            about = {"checkpoint": checkpoint, "kimg": model.images_seen / 1000}
            about |= {} if ema is None else {"ema": ema}
            result = {name: result[name] for name in ("metric", "value")} | about | result
            found.append(result)
            if (result["metric"], result["kimg"]) in self.known:
                continue
            self._say(describe(result))
            if self._writer and ema is None:
                self._writer.write_scalars(model.images_seen, scalars(result))
                self._writer.flush()
            self._mine.append(json.dumps(result))
            there = _lines(self._path)  # without those that still wait for the disk
            new = [line for line in self._mine if line not in there]
            if self._keep(self._path, _joined([*there, *new])):
                self._mine.clear()
        worst = {name for result in found for name in collapsed(result, self._below)}
        if worst:
            logging.warning(
                "images of class %s vary less than %g of what real ones do: a collapse?",
                ", ".join(sorted(worst, key=int)),
                self._below,
            )
        return found


def forget(workdir: epath.PathLike, images: int) -> set[tuple[str, float]]:
    """Forgets what was measured of a run after `images`: (metric, kimg) of all that stays."""
    path = epath.Path(workdir) / FILE
    lines, results = _lines(path), read(workdir)
    kept = [result["kimg"] <= images / 1000 for result in results]
    if not all(kept):
        _keep(path, _joined(itertools.compress(lines, kept)))
    kept = itertools.compress(results, kept)
    return {(r["metric"], r["kimg"]) for r in kept if "ema" not in r}


def read(workdir: epath.PathLike) -> list[dict]:
    """All that was measured of a run, in that order."""
    return [json.loads(line) for line in _lines(epath.Path(workdir) / FILE)]


def _lines(path: epath.Path) -> list[str]:
    """The lines of a file that are results: a killed process may have left half a one."""
    text = path.read_text() if path.exists() else ""
    return [line for line in text.splitlines() if _is_result(line)]


def _is_result(line: str) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and {"metric", "kimg"} <= found.keys()


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _keep(path: epath.Path, data: bytes) -> bool:
    with replaced(path) as file:
        file.write(data)
    return True


def evaluate_workdir(
    config,
    source,
    workdir: epath.PathLike,
    detector_weights: Sequence,
    repeats: int,
    ema: Sequence[float] = (),
) -> list[dict]:
    """Measures the newest intact checkpoint of a run (see Results), or the one that is given.

    `ema`: its averages of these widths (see model.load) in place of the run's own.

    `config` (a config.Config) says what is measured, `source` is the data set. Raises UserError
    where there is no checkpoint, or the data are not of its model's kind.
    """
    if not config.evaluate.metrics:
        raise UserError(
            "nothing to measure: give --config.evaluate.metrics=fid50k_full,kid50k_full,is50k "
            "(or fd_pixel50k_full, which needs no detector's weights)"
        )
    model, *others = [load(workdir, ema=width) for width in ema or (None,)]
    check_data(model, source)
    if model.num_classes != source.num_classes:
        raise UserError(
            f"the model in {model.checkpoint} has {model.num_classes} classes, the data "
            f"{source.num_classes}: give the configuration that it was trained with"
        )
    evaluator = Evaluator(model, source, config.evaluate, detector_weights)
    home = epath.Path(model.checkpoint).parent.parent
    writer = writer_of(mirrors_of(config.log.writers), home)
    try:
        results = Results(evaluator, home, writer, config.evaluate.collapse_below)
        return [
            result
            for one, width in zip((model, *others), ema or (None,), strict=True)
            for result in results.measure(one, one.checkpoint, repeats, width)
        ]
    except OSError as error:
        raise UserError(f"{home} cannot be written: {error.strerror or error}") from None
    finally:
        if writer:
            writer.close()


def describe(result: dict) -> str:
    """`fid50k_full 4.4512 +- 0.01, 50,000 images, 83 s`."""
    value, spread = result["value"], result.get("spread")
    if isinstance(value, dict):
        spreads = spread or dict.fromkeys(value)
        shown = ", ".join(f"{name} {_shown(value[name], spreads[name])}" for name in value)
    else:
        shown = _shown(value, spread)
    name = result["metric"] + (f", ema {result['ema']:g}" if "ema" in result else "")
    return f"{name}: {shown}  ({result['images']:,} images, {result['seconds']:.1f} s)"


def _shown(value: float, spread: float | None) -> str:
    return f"{value:.5g}" if spread is None else f"{value:.5g} +- {spread:.2g}"


def scalars(result: dict) -> dict[str, float]:
    """Tags and numbers for TensorBoard."""
    value = result["value"]
    if not isinstance(value, dict):
        value = {"": value}
    found = {f"metrics/{result['metric']}{name and '_' + name}": v for name, v in value.items()}
    ratios = [r for r in result.get("diversity", {}).values() if r is not None]
    if ratios:
        found[f"metrics/{result['metric']}_least_diversity"] = min(ratios)
    return found
