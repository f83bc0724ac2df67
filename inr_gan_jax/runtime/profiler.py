"""A trace of some iterations of a run: what the devices and the host do, and when."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import jax
from etils import epath

FOLDER = "profile"  # in a workdir


class Profiler:
    """Traces the iterations that `settings` (a config.ProfileConfig) names, on process 0."""

    def __init__(self, settings, workdir: epath.PathLike, say=print):
        """`say` is told where the trace is."""
        steps = settings.steps if jax.process_index() == 0 else 0
        self._begin, self._end = settings.start, settings.start + steps
        self._folder, self._say = epath.Path(workdir) / FOLDER, say
        self._iteration, self._tracing = 0, None

    def step(self, state) -> contextlib.AbstractContextManager:
        """To be called for each iteration, which runs in the context that it gives.

        Where a trace begins or ends it waits for `state`, the arrays that the devices are to make.
        """
        iteration = self._iteration
        self._iteration += 1
        if self._begin < self._end and iteration in (self._begin, self._end):
            jax.block_until_ready(state)
            self.close()
            if iteration == self._begin:
                self._start()
        if self._tracing is None:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("iteration", step_num=iteration)

    def close(self) -> None:
        """Ends the trace, if there is one, and says how to look at it."""
        if self._tracing is None:
            return
        made, self._tracing = self._tracing, None
        try:
            jax.profiler.stop_trace()
            picture = self._copy(made)
        except OSError as error:  # a full disk
            self._say(f"the profile cannot be written: {error}")
            return
        finally:
            shutil.rmtree(made, ignore_errors=True)
        steps = min(self._iteration, self._end) - self._begin
        self._say(
            f"profile of {steps} iterations: open {picture} on "
            f"https://ui.perfetto.dev, or: pip install xprof; xprof --logdir={self._folder}"
        )

    def _copy(self, made: Path) -> epath.Path:
        """Copies the trace into the workdir: the file to look at."""
        for path in filter(Path.is_file, made.rglob("*")):
            place = self._folder / path.relative_to(made).as_posix()
            place.parent.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, place.open("wb") as target:
                shutil.copyfileobj(source, target)
            if path.name.startswith("perfetto"):
                picture = place
        return picture

    def _start(self) -> None:
        try:
            self._tracing = Path(tempfile.mkdtemp())  # here, as the workdir may be in a cloud
        except OSError as error:
            self._say(f"no profile is made: {error}")
            return
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # tracing each call in Python would slow it down
        jax.profiler.start_trace(
            self._tracing, create_perfetto_trace=True, profiler_options=options
        )
