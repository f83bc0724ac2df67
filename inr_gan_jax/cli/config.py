"""--config: a file or a name, the keys that a command line overrides, and the data it names."""

import json
import re
import traceback
from pathlib import Path

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from inr_gan_jax.errors import UserError, nearest

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file, or a name such as digits; --config.KEY=VALUE overrides its keys."
)
SHIPPED = Path(__file__).parents[1] / "configs"  # of the wheel; in the repository a link


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the flags and loads the configuration.

    Raises UserError for an override of no known key, for a configuration that is not there and for
    whatever goes wrong in its file, flags.Error for other flags.
    """
    _check_overrides(argv)
    argv = located(argv)
    try:
        rest = flags.FLAGS(argv)
        dict(CONFIG.value or {})  # a file that cannot be read raises when it is looked at
    except Exception as error:
        if isinstance(error, flags.Error) and "parsing config file" not in str(error):
            raise
        raise UserError(_explain(error, argv)) from error
    _adopt_recipe()
    return rest


def names() -> list[str]:
    """The configurations that come with this package."""
    return sorted(path.stem for path in SHIPPED.glob("*.py"))


def located(argv: list[str]) -> list[str]:
    """A command line with --config's file in the place of a name.

    `digits` and `configs/digits.py` are that file where there is one, else the one that comes with
    the package; any other path is itself. UserError, which lists all names, for an unknown one.
    """
    found = list(argv)
    for place, word in enumerate(argv):
        flag, joined, value = word.partition("=")
        if flag in ("--config", "-config"):
            if joined:
                found[place] = f"{flag}={_file(value)}"
            elif place + 1 < len(argv):
                found[place + 1] = _file(argv[place + 1])
    return found


def _file(named: str) -> str:
    path, colon, rest = named.partition(":")
    name = re.fullmatch(r"(?:configs/)?([^/]+?)(?:\.py)?", path)
    if Path(path).is_file() and not path.endswith(".py"):
        raise UserError(f"--config={named}: no configuration: these are Python files, x.py")
    if name is None or Path(path).is_file():
        return named
    for folder in (Path("configs"), SHIPPED):
        if (file := folder / f"{name[1]}.py").is_file():
            return f"{file}{colon}{rest}"
    raise UserError(
        f"--config={named}: no such file or name; there are {', '.join(names())}"
        + nearest(name[1], names())
    )


def _adopt_recipe() -> None:
    """--config.train.recipe stands before all other overrides, wherever it was typed."""
    from inr_gan_jax.config import adopt

    typed = config_flags.get_override_values(flags.FLAGS["config"]) if CONFIG.value else {}
    if name := typed.get("train.recipe"):
        adopt(CONFIG.value, name)
        CONFIG.value.update_from_flattened_dict(typed)


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
    if isinstance(cause, AttributeError) and cause.name == "get_config":
        return f"--config={where}: no configuration: it has no function get_config()"
    kind = "" if isinstance(cause, UserError) else f"{type(cause).__name__}: "
    return f"--config={where}: {kind}{' '.join(str(cause).split())}"


def _check_overrides(argv: list[str]) -> None:
    from inr_gan_jax.config import KEYS

    for match in filter(None, (re.match(r"--?(?:no)?(config\.[\w.]+)", arg) for arg in argv)):
        if not any(f"{key}.".startswith(f"{match[1]}.") for key in KEYS):
            raise UserError(f"unknown key {match[1]}" + nearest(match[1], KEYS))


def opened(draft: ConfigDict, workdir: epath.PathLike | None = None):
    """The frozen configuration and its data set, both checked; UserError for a user's mistake.

    `workdir`: of the run, which keeps an aspect that was found once.
    """
    import jax

    from inr_gan_jax.config import parse
    from inr_gan_jax.data import patches
    from inr_gan_jax.data.sources import open_source
    from inr_gan_jax.models.sizes import aspect_of

    config, progress = parse(draft), jax.process_index() == 0
    data_dir = config.data.data_dir or None
    if config.patches.largest:
        pictures = patches.look_at(config.data.source, data_dir, progress)
        if config.model.aspect == "auto":
            aspect = _recorded_aspect(workdir) or aspect_of(pictures.shape())
            draft.model.aspect = aspect
            config = parse(draft)
    options = {
        "height": config.model.height,
        "width": config.model.width,
        "channels": config.model.channels,
        "labels": config.data.labels,
        "progress": progress,
    }
    if config.patches.largest:
        sizes = patches.Sizes(config.patches.largest, config.patches.whole, config.patches.scales)
        options |= {"sizes": sizes, "max_skipped": config.data.max_skipped}
        source = patches.open_patches(pictures, **options)
    else:
        source = open_source(config.data.source, data_dir=data_dir, **options)
    return parse(draft, num_classes=source.num_classes), source


def _recorded_aspect(workdir: epath.PathLike | None) -> str:
    """The aspect that the run has ("4:3"), or "" at its first start; also of its checkpoints."""
    from inr_gan_jax.storage.checkpoint import FOLDER
    from inr_gan_jax.train.workdir import RUN_FILE

    if workdir is None:
        return ""
    run = epath.Path(workdir).expanduser()
    if run.parent.name == FOLDER:
        run = run.parent.parent
    if not (record := run / RUN_FILE).exists():
        return ""
    try:
        return json.loads(record.read_text())["config"]["model"]["aspect"]
    except (ValueError, KeyError, TypeError):  # for the run to say
        return ""
