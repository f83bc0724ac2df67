"""The main command: one line per mode.

    python -m inr_gan_jax.main --config=configs/ffhq.py [--workdir=DIR] [--config.KEY=VALUE ...]

trains, or goes on from the workdir's last checkpoint.

    python -m inr_gan_jax.main --mode=evaluate --config=configs/ffhq.py --workdir=runs/ffhq \\
        --config.evaluate.metrics=fid50k_full,kid50k_full,is50k,pr50k3_full,ppl_zfull [--repeats=3]

measures its newest checkpoint (or, with --workdir=runs/ffhq/checkpoints/1000, that one).

    python -m inr_gan_jax.main --mode=report --config=configs/ffhq.py --workdir=runs/ffhq \\
        --sizes=128,256,512,1024 [--reference=data/ffhq1024.zip] [--detector=pixel] [--images=5000]

compares its images at several sizes with resampled ones: a table, report.json and report.png.
"""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from inr_gan_jax.errors import UserError, nearest, run

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/; its keys are overridden by --config.KEY=VALUE."
)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default runs/<config>.")


ALLOW_CPU = flags.DEFINE_bool(
    "allow_cpu", False, "Train on the CPU though this machine has an accelerator."
)
WEIGHTS = flags.DEFINE_list(
    "detector_weights",
    [],
    "Files with the weights of detectors (.pth, .safetensors), in any order.",
)
REPEATS = flags.DEFINE_integer("repeats", 1, "Measurements, each on other latents.", lower_bound=1)

SIZES = flags.DEFINE_list("sizes", [], "Report: lengths of the longer side in pixels.")
IMAGES = flags.DEFINE_integer("images", 5000, "Report: generated images.", lower_bound=2)
DETECTOR = flags.DEFINE_enum("detector", "inception", ["inception", "pixel"], "Report: features.")
REFERENCE = flags.DEFINE_string(
    "reference", None, "Report: larger real images, a zip or folder; default: the training data."
)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags and loads the configuration.

    Raises UserError for an override of no known key and for whatever goes wrong in the
    configuration's file, flags.Error for other flags.
    """
    _check_overrides(argv)
    try:
        rest = flags.FLAGS(argv)
        dict(CONFIG.value or {})  # a file that cannot be read raises when it is looked at
    except Exception as error:
        if isinstance(error, flags.Error) and "parsing config file" not in str(error):
            raise
        raise UserError(_explain(error, argv)) from error
    return rest


def _explain(error: Exception, argv: list[str]) -> str:
    """One line: which configuration could not be loaded, where in it, and why."""
    found = re.search(r"^--?config[=\n](.*)$", "\n".join(argv), re.MULTILINE)
    where = path = found[1] if found else ""
    cause, line = error, None
    while True:  # ml_collections wraps what happened in the file, or lets it pass
        frames = traceback.extract_tb(cause.__traceback__)
        line = next((f.lineno for f in reversed(frames) if f.filename == path.split(":")[0]), None)
        inner = cause.__cause__ or cause.__context__
        if line or not inner:
            break
        cause = inner
    if line:
        where += f", line {line}"
    if isinstance(cause, OSError):  # a file that is not there: the last line says so
        return f"--config={where}: {str(cause).splitlines()[-1].strip()}"
    kind = "" if isinstance(cause, UserError) else f"{type(cause).__name__}: "
    return f"--config={where}: {kind}{' '.join(str(cause).split())}"


def _check_overrides(argv: list[str]) -> None:
    from inr_gan_jax.config import KEYS

    for match in filter(None, (re.match(r"--?(?:no)?(config\.[\w.]+)", arg) for arg in argv)):
        if not any(f"{key}.".startswith(f"{match[1]}.") for key in KEYS):
            raise UserError(f"unknown key {match[1]}" + nearest(match[1], KEYS))


def opened(draft: ConfigDict):
    """The frozen configuration and its data set, both checked; UserError for a user's mistake."""
    import jax

    from inr_gan_jax.config import parse
    from inr_gan_jax.data.sources import open_source

    config = parse(draft)
    source = open_source(
        config.data.source,
        height=config.model.height,
        width=config.model.width,
        channels=config.model.channels,
        labels=config.data.labels,
        data_dir=config.data.data_dir or None,
        progress=jax.process_index() == 0,
    )
    return parse(draft, num_classes=source.num_classes), source


def train(
    draft: ConfigDict, workdir: epath.PathLike, detector_weights=(), allow_cpu: bool = False
) -> None:
    """Checks configuration and data, then trains, or goes on; UserError for a user's mistake.

    `allow_cpu`: also where this machine has an accelerator that jax cannot use.
    """
    from inr_gan_jax.runtime.devices import refuse_idle_accelerator, use_compilation_cache
    from inr_gan_jax.train import loop

    refuse_idle_accelerator(allow_cpu)

    config, source = opened(draft)
    use_compilation_cache()
    loop.train(config, source, workdir, detector_weights)


def evaluate(
    draft: ConfigDict, workdir: epath.PathLike, detector_weights=(), repeats: int = 1
) -> list[dict]:
    """Measures a run's newest checkpoint: a result for each metric (see metrics.evaluate)."""
    from inr_gan_jax.metrics.results import evaluate_workdir
    from inr_gan_jax.runtime.devices import use_compilation_cache

    config, source = opened(draft)
    use_compilation_cache()
    return evaluate_workdir(config, source, workdir, detector_weights, repeats)


def report(
    draft: ConfigDict,
    workdir: epath.PathLike,
    sizes: Sequence[int],
    *,
    images: int = 5000,
    detector: str = "inception",
    reference: epath.PathLike | None = None,
    detector_weights: Sequence[epath.PathLike] = (),
) -> dict:
    """Compares a run's images at several output sizes with resampled ones (see metrics.report)."""
    from inr_gan_jax.data.sources import open_at_own_size
    from inr_gan_jax.metrics import weights
    from inr_gan_jax.metrics.report import report_workdir
    from inr_gan_jax.runtime.devices import use_compilation_cache

    config, source = opened(draft)
    larger = None
    if reference is not None:
        larger = open_at_own_size(str(reference), channels=config.model.channels)
    use_compilation_cache()
    return report_workdir(
        config,
        source,
        workdir,
        sizes=sizes,
        images=images,
        detector=detector,
        reference=larger,
        load=lambda network: weights.load(network, detector_weights),
    )


def _report() -> None:
    import jax

    if jax.process_count() > 1:
        raise UserError("--mode=report runs in one process; its devices share the work")
    if not SIZES.value or not all(size.isdecimal() for size in SIZES.value):
        raise UserError("give the sizes of the report in pixels: --sizes=128,256,512")
    report(
        CONFIG.value, _workdir(), list(map(int, SIZES.value)), images=IMAGES.value,
        detector=DETECTOR.value, reference=REFERENCE.value, detector_weights=WEIGHTS.value,
    )  # fmt: skip


def _workdir() -> epath.PathLike:
    if WORKDIR.value is not None:
        return WORKDIR.value
    return Path("runs") / Path(config_flags.get_config_filename(flags.FLAGS["config"])).stem


MODES = {
    "train": lambda: train(CONFIG.value, _workdir(), WEIGHTS.value, ALLOW_CPU.value),
    "evaluate": lambda: evaluate(CONFIG.value, _workdir(), WEIGHTS.value, REPEATS.value),
    "report": _report,
}
MODE = flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")


def main(_) -> None:
    """Runs the mode that the flags ask for."""
    from inr_gan_jax.runtime import processes

    if CONFIG.value is None:
        raise UserError("give a configuration: --config=configs/digits.py")
    processes.join()
    MODES[MODE.value]()


if __name__ == "__main__":
    run(main, parse_flags)
