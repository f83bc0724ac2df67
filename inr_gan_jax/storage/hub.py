"""A hub of models, huggingface.co or what `$HF_ENDPOINT` names, through its own client library.

That library (the extra `hf`) finds the user's token (`hf auth login`, or `$HF_TOKEN`), which is
neither kept nor shown here. Whatever fails is one line that says what to do.
"""

import contextlib
import functools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from etils import epath
from tqdm import tqdm

from inr_gan_jax.errors import UserError, pip_install

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?")
_LOGIN = "log in (`hf auth login`) or set $HF_TOKEN"


class Address(NamedTuple):
    """A model on a hub, and perhaps one of its revisions: a branch, a tag or a commit."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def is_hub(path: epath.PathLike) -> bool:
    """Whether a path means a hub: hf://user/model."""
    return os.fspath(path).startswith(PREFIX)


def address_of(path: epath.PathLike) -> Address:
    """`hf://user/model` or `hf://user/model@revision`; UserError for others."""
    found = _ADDRESS.fullmatch(os.fspath(path))
    if not found:
        raise UserError(f"{os.fspath(path)} must be hf://user/model, or hf://user/model@revision")
    return Address(found[1], found[2])


def fetched(path: epath.PathLike, name: str, cache: Path) -> Path:
    """One file of a hub's model, with a progress bar, kept in the folder `cache`.

    What is there is not fetched again. Without a network it is the one that was fetched last,
    which is said. Raises UserError where there is no such model, revision or file, or no way to it.
    """
    address, library = address_of(path), _library()
    what = {"repo_id": address.repository, "filename": name, "revision": address.revision}
    with _told(address):
        try:
            library.get_hf_file_metadata(library.hf_hub_url(**what))
        except Exception as error:
            if _is_answer(error):
                raise
            with contextlib.suppress(library.errors.LocalEntryNotFoundError):
                kept = library.hf_hub_download(**what, cache_dir=cache, local_files_only=True)
                print(f"{address}: no hub can be reached; {kept} is used", file=sys.stderr)
                return Path(kept)
            raise
        bar = functools.partial(tqdm, delay=2)  # the library's own is for terminals alone
        return Path(library.hf_hub_download(**what, cache_dir=cache, tqdm_class=bar))


def check_free(path: epath.PathLike, update: bool) -> None:
    """What can be known before anything is made for `sent`: the address, a token, a conflict."""
    address, library = address_of(path), _library()
    if address.revision:
        raise UserError(f"{address}: a new revision gets its name on the hub; leave @ away")
    if library.get_token() is None:
        raise UserError(f"{address}: a hub takes models of known users only: {_LOGIN}")
    with _told(address):
        if library.HfApi().repo_exists(address.repository) and not update:
            raise _taken(address)


def sent(
    files: Mapping[str, bytes], path: epath.PathLike, message: str, *, private: bool, update: bool
) -> str:
    """Makes a model on a hub, or with `update` a new revision of it: the address of its page.

    Raises UserError where that may not be, cannot be, or exists already.
    """
    address, library = address_of(path), _library()
    with _told(address):
        api = library.HfApi()
        api.create_repo(address.repository, private=private or None, exist_ok=update)
        parts = [library.CommitOperationAdd(name, data) for name, data in files.items()]
        api.create_commit(address.repository, parts, commit_message=message)
    return f"{library.constants.ENDPOINT}/{address.repository}"


def _library():
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError:
        raise UserError(
            f"{PREFIX}... needs the hub's client library: pip install huggingface_hub (here: "
            f"{pip_install('hf')})"
        ) from None
    return huggingface_hub


def _is_answer(error: Exception) -> bool:
    """Whether a hub said no, rather than nothing."""
    errors = _library().errors
    if isinstance(error, errors.HfHubHTTPError):
        return error.response is not None and error.response.status_code < 500
    return isinstance(error, errors.HFValidationError)


@contextlib.contextmanager
def _told(address: Address) -> Iterator[None]:
    """UserError, one line, for whatever the library raises in the body."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of its own, of its network's library, of the disk
        raise _explained(error, address) from None


def _explained(error: Exception, address: Address) -> UserError:
    errors = _library().errors
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        why = f"its owner asks readers to agree first, on its page; then {_LOGIN}"
    elif isinstance(error, errors.RevisionNotFoundError):
        why = "there is no such revision: leave @ away for the newest"
    elif isinstance(error, errors.RemoteEntryNotFoundError):
        why = "it holds no model.safetensors; python -m inr_gan_jax.share writes such models"
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"there is no such model, or it is not for all: check the name, or {_LOGIN}"
    elif status == 409:
        return _taken(address)
    elif status == 412:
        why = "somebody else changed it meanwhile: again"
    elif status in (401, 403):
        why = f"you may not do that there: {_LOGIN}, with a token that may write to that account"
    elif isinstance(error, errors.HFValidationError):
        why = f"no name that a hub takes ({_line(error)})"
    elif status and status < 500:
        why = f"the hub refused ({_line(error)})"
    elif isinstance(error, OSError) and error.errno:
        why = f"{error.filename or 'a file'} cannot be written: {error.strerror}"
    else:
        why = f"the hub cannot be reached ({_line(error)}), and no copy is here: try again later"
    return UserError(f"{address}: {why}")


def _taken(address: Address) -> UserError:
    return UserError(
        f"{address} exists: give another name, or --update to make a new revision of it"
    )


def _line(error: Exception) -> str:
    """What a library says, without the token, which a faulty header would show."""
    text, token = " ".join(str(error).split()) or type(error).__name__, _library().get_token()
    return (text.replace(token, "...") if token else text)[:300]
