"""The main command: one line per mode.

    python -m inr_gan_jax.main --config=configs/ffhq.py [--workdir=DIR] [--config.KEY=VALUE ...]

trains, or goes on from the workdir's last checkpoint.

    python -m inr_gan_jax.main --mode=evaluate --config=configs/ffhq.py --workdir=runs/ffhq \\
        --config.evaluate.metrics=fid50k_full,kid50k_full,is50k,pr50k3_full,ppl_zfull [--repeats=3]

measures its newest checkpoint (or, with --workdir=runs/ffhq/checkpoints/1000, that one); with
--ema=0.02,0.05,0.1 other averages of its generator (--config.train.power_ema while it trained).

    python -m inr_gan_jax.main --mode=report --config=configs/ffhq.py --workdir=runs/ffhq \\
        --sizes=128,256,512,1024 [--reference=data/ffhq1024.zip] [--detector=pixel] [--images=5000]

compares its images at several sizes with resampled ones: a table, report.json and report.png.

The latents of training, evaluate and report are streams of this project, also where a published
checkpoint goes on: `generate --seeds` alone means what its own code means by seeds.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.config import CONFIG, opened, parse_flags
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

flags.declare_key_flag("config")
WORKDIR = shared.path("workdir", None, "Where the run lives; default runs/<config>.")
ALLOW_CPU = flags.DEFINE_bool(
    "allow_cpu", False, "Train on the CPU though this machine has an accelerator."
)
WEIGHTS = shared.paths(
    "detector_weights",
    [],
    "Files with the weights of detectors (.pth, .safetensors), in any order.",
)
REPEATS = flags.DEFINE_integer("repeats", 1, "Measurements, each on other latents.", lower_bound=1)

SIZES = flags.DEFINE_list("sizes", [], "Report: lengths of the longer side in pixels.")
IMAGES = flags.DEFINE_integer("images", 5000, "Report: generated images.", lower_bound=2)
DETECTOR = flags.DEFINE_enum("detector", "inception", ["inception", "pixel"], "Report: features.")
REFERENCE = shared.path(
    "reference", None, "Report: larger real images, a zip or folder; default: the training data."
)


def train(
    draft: ConfigDict, workdir: epath.PathLike, detector_weights=(), allow_cpu: bool = False
) -> None:
    """Checks configuration and data, then trains, or goes on; UserError for a user's mistake.

    `allow_cpu`: also where this machine has an accelerator that jax cannot use.
    """
    from inr_gan_jax.runtime.devices import refuse_idle_accelerator, use_compilation_cache
    from inr_gan_jax.train import loop

    refuse_idle_accelerator(allow_cpu)

    config, source = opened(draft, workdir)
    use_compilation_cache()
    loop.train(config, source, workdir, detector_weights)


def evaluate(
    draft: ConfigDict,
    workdir: epath.PathLike,
    detector_weights=(),
    repeats: int = 1,
    ema: Sequence[float] = (),
) -> list[dict]:
    """Measures a run's newest checkpoint: a result for each metric (see metrics.evaluate).

    `ema`: of its averages of these widths (see model.load) in place of the run's own.
    """
    from inr_gan_jax.metrics.results import evaluate_workdir
    from inr_gan_jax.runtime.devices import use_compilation_cache

    config, source = opened(draft, workdir)
    use_compilation_cache()
    return evaluate_workdir(config, source, workdir, detector_weights, repeats, ema)


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

    config, source = opened(draft, workdir)
    larger = None
    if reference is not None:
        larger = open_at_own_size(str(reference), channels=config.model.channels)
    elif config.patches.largest:  # the pictures themselves are larger than the model
        larger = source.whole_at([*sizes, max(config.model.height, config.model.width)])
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
    "evaluate": lambda: evaluate(
        CONFIG.value, _workdir(), WEIGHTS.value, REPEATS.value, shared.widths()
    ),
    "report": _report,
}
MODE = flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")


def main(_) -> None:
    """Runs the mode that the flags ask for."""
    from inr_gan_jax.runtime import processes

    if CONFIG.value is None:
        raise UserError("give a configuration: --config=configs/digits.py")
    if flags.FLAGS.ema and MODE.value != "evaluate":
        raise UserError(f"--ema is for --mode=evaluate, not {MODE.value}")
    processes.join()
    MODES[MODE.value]()


if __name__ == "__main__":  # a flag that commands have which a process may import beside this
    shared.averages("Evaluate: relative widths of other averages of the run, 0.05,0.1 say.")
    run(main, parse_flags)
