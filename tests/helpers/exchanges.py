"""What devices exchange in phases of training, compiled and not run, as a command.

    python tests/helpers/exchanges.py '[[1, 1, "D_R1"], [2, 2, "G_MAIN"]]'

takes rows of (fsdp, microbatches, phase) and prints a JSON list, one entry for each; XLA_FLAGS says
how many devices the host has. The network is shallow, to compile soon, and wide, so that its
parameters outweigh everything else.
"""

import dataclasses
import json
import sys

import jax

from inr_gan_jax.config import Config, base, parse
from inr_gan_jax.costs.collectives import collectives
from inr_gan_jax.runtime.sharding import make_mesh
from inr_gan_jax.train.recipe import Phase
from inr_gan_jax.train.trainer import Trainer

CLASSES, WIDTH = 10, 64


def config_of(fsdp: int, microbatches: int) -> Config:
    config = base("inr_gan", height=8, width=8, channels=1, z_dim=WIDTH, w_dim=WIDTH,
                  channel_base=8 * WIDTH, channel_max=WIDTH, rank=2, mapping_layers=1,
                  input_resolution=8, fine_from=16, extra_layers=0)  # fmt: skip
    config.model.embedding_coarse.update(log=32, table=4)
    config.discriminator.update(channel_base=8 * WIDTH, channel_max=WIDTH, mapping_layers=1,
                                group=2)  # fmt: skip
    config.data.source = "digits"
    config.train.update(batch_size=32, microbatches=microbatches, path_weight=2.0)
    config.mesh.fsdp = fsdp
    return parse(config, num_classes=CLASSES)


def parameters(trainer: Trainer, network: str) -> list[dict]:
    """Of each array of a network: shape, its part's shape on a device, whether it is cut."""
    shapes = jax.tree.leaves(getattr(trainer.abstract_state(), network))
    return [
        {
            "shape": leaf.shape,
            "part": leaf.sharding.shard_shape(leaf.shape),
            "cut": not leaf.sharding.is_fully_replicated,
        }
        for leaf in shapes
    ]


def main():
    found = []
    for fsdp, microbatches, name in json.loads(sys.argv[1]):
        mesh = make_mesh(fsdp=fsdp)
        trainer = Trainer(config_of(fsdp, microbatches), [9] * CLASSES, dtype="float32", mesh=mesh)
        trainer.compile([Phase[name]])
        text = trainer.compiled[Phase[name]].as_text()
        networks = {network: parameters(trainer, network) for network in ("g", "d")}
        exchanged = [dataclasses.asdict(one) for one in collectives(text)]
        found.append(networks | {"exchanged": exchanged})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
