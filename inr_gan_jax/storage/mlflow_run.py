"""A run in MLflow, through its own library: on a server, or in files ($MLFLOW_TRACKING_URI)."""

import io
import os
import re
import time
from collections.abc import Iterator, Mapping

from etils import epath
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from PIL import Image

from inr_gan_jax.storage.mirror import Told

_LONGEST = 500  # characters of a parameter that every version takes
_AT_ONCE = 100  # parameters


class Run:
    """See mirror.Program. The image count is the step; pictures are artifacts, `TAG/COUNT.png`."""

    name = "mlflow"

    def __init__(self, client: MlflowClient, run_id: str):
        self._client, self.id = client, run_id

    def known(self) -> set[tuple[str, int]]:
        metrics = self._client.get_run(self.id).data.metrics
        scalars = {
            (tag, point.step)
            for tag in metrics
            for point in self._client.get_metric_history(self.id, tag)
        }
        return scalars | set(self._pictures())

    def write(self, told: Told) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(tag, value, now, told.images) for tag, value in told.scalars.items()]
        if metrics:
            self._client.log_batch(self.id, metrics=metrics)
        for tag, png in told.pictures.items():
            picture = Image.open(io.BytesIO(png))
            self._client.log_image(self.id, picture, f"{tag}/{told.images:09d}.png")

    def configure(self, values: Mapping[str, object]) -> None:
        """A file, `config.json`, and parameters, which cannot change: those that are new."""
        self._client.log_dict(self.id, dict(values), "config.json")
        there = self._client.get_run(self.id).data.params
        new = [Param(k, str(v)[:_LONGEST]) for k, v in values.items() if k not in there]
        for start in range(0, len(new), _AT_ONCE):
            self._client.log_batch(self.id, params=new[start : start + _AT_ONCE])

    def close(self) -> None:
        self._client.set_terminated(self.id)

    def _pictures(self) -> Iterator[tuple[str, int]]:
        for folder in self._client.list_artifacts(self.id):
            if folder.is_dir:
                for file in self._client.list_artifacts(self.id, folder.path):
                    if found := re.search(r"(\d+)\.png$", file.path):
                        yield folder.path, int(found[1])


def opened(workdir: epath.Path, title: str, before: str | None) -> Run:
    """The run of earlier starts, or a new one, in $MLFLOW_EXPERIMENT_NAME or `inr_gan_jax`."""
    client = MlflowClient()
    if before:
        client.update_run(before, status="RUNNING")
        return Run(client, before)
    named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "inr_gan_jax"
    found = client.get_experiment_by_name(named)
    experiment = found.experiment_id if found else client.create_experiment(named)
    return Run(client, client.create_run(experiment, run_name=title).info.run_id)
