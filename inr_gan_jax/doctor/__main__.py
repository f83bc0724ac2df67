"""What this machine has, and what training costs; nothing is trained.

    python -m inr_gan_jax.doctor

tells versions, devices, the cache of compiled programs, and accelerators that stand idle.

    python -m inr_gan_jax.doctor --config=configs/ffhq.py [--config.KEY=VALUE ...]

compiles the training steps for the devices at hand and tells what they cost.

    python -m inr_gan_jax.doctor --config=configs/ffhq_1024.py --topology=v5e:4x4

does so for TPUs that are not here (v4, v5e, v5p, v6e), where libtpu is installed, and for GPUs
(h100:8, h200:8), where jax's CUDA plugin is; minutes on a few cores. Where training does not fit,
it compiles on until it does and prints the flags to use.
--json=FILE writes the same numbers.
"""

import json
import sys

from absl import flags

from inr_gan_jax.cli import flags as shared
from inr_gan_jax.cli.config import CONFIG, opened, parse_flags
from inr_gan_jax.cli.run import run
from inr_gan_jax.errors import UserError

TOPOLOGY = flags.DEFINE_string(
    "topology", None, "TPUs or GPUs to compile for, such as v5e:4x4 or h100:8."
)
JSON = shared.path("json", None, "A file to write the numbers to.")
flags.declare_key_flag("config")


def main(_) -> None:
    """Tells of the machine, or of the training that --config describes."""
    if TOPOLOGY.value is not None and CONFIG.value is None:
        raise UserError("--topology needs a configuration: --config=configs/ffhq_1024.py")
    told = _machine() if CONFIG.value is None else _training()
    if JSON.value is not None:
        from inr_gan_jax.storage.atomic import replaced

        try:
            with replaced(JSON.value) as file:
                file.write(json.dumps(told, indent=1).encode())
        except OSError as error:
            raise UserError(f"--json={JSON.value} cannot be written: {error}") from error


def _machine() -> dict:
    from inr_gan_jax.doctor import machine

    told = machine.values()
    print(machine.text(told))
    return told


def _training() -> dict:
    from inr_gan_jax.doctor import fit, report

    job = _job()
    job.check()
    program = fit.measure(job)
    print(report.text(job, program), flush=True)
    told = report.values(job, program) | {"topology": TOPOLOGY.value, "flags": None}
    if program.fits:
        return told
    found = fit.search(job, program)
    if found is None:
        print("\nneither microbatches nor config.train.remat nor config.mesh.fsdp make it fit")
        return told
    job, program = found
    print(f"\nit fits with {job.flags}\n")
    print(report.text(job, program))
    return told | {"flags": job.flags, "fitting": report.values(job, program)}


def _job():
    """What to compile, from the flags; class counts come from the data, where there are any."""
    import jax

    from inr_gan_jax import config as configs
    from inr_gan_jax.doctor import topology
    from inr_gan_jax.doctor.fit import Job
    from inr_gan_jax.runtime import devices
    from inr_gan_jax.train import means

    config, counts = configs.parse(CONFIG.value), ()
    if TOPOLOGY.value is not None:
        found = topology.devices(TOPOLOGY.value)
    else:
        devices.use_compilation_cache()
        found = jax.devices()
    if config.model.aspect == "auto":
        print(
            "the shape of the pictures is not known here: square patches "
            "(--config.model.aspect=3:2 tells another)"
        )
    if config.data.labels:
        config, source = opened(CONFIG.value)
        counts = source.class_counts
    dtype = config.train.dtype
    if dtype == "bfloat16" and found[0].platform == "cpu":  # as a run does at its start
        dtype = means.quicker_dtype()
    return Job(config, counts, dtype, found, lambda line: print(line, file=sys.stderr))


if __name__ == "__main__":
    run(main, parse_flags)
