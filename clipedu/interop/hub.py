"""A model's repository on the Hub: its settings, its errors in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError, quoted, shorten, without_trace
from clipedu.utils.hub import http_errors, quiet, reachable, status_of

SMALL = ["*.json", "*.txt", "*.model"]  # settings, vocabularies; no weights


@contextmanager
def local_alone() -> Iterator[bool]:
    """Keep the hub's clients off the network inside, where there is none.

    They would try each file for minutes. Yields whether there is none.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    local = before or not reachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = local
    try:
        yield local
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def from_model_hub(repository: str, what_for: str = "") -> Iterator[bool]:
    """Turn errors about a model's repository into one line.

    Yields whether only files of this machine are used.

    Args:
        repository: of the model, "owner/name".
        what_for: what it is fetched for, where a user has not named it.
    Raises:
        ClipeduError: a name that is none, a repository that is gated, missing or not on this machine, files that are not
            there.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    asked = constants.HF_HUB_OFFLINE
    with local_alone() as local, quiet(bars=True):
        try:
            yield local
        except ClipeduError:
            raise
        except HFValidationError as error:
            raise ClipeduError(f"{quoted(repository)} is no name of a model on the hub: {error}") from None
        except Exception as error:  # noqa: BLE001  open_clip and transformers wrap the hub's errors in their own
            causes = list(_causes(error))
            status = next((code for cause in causes if (code := status_of(cause)) is not None), None)
            page, login = f"{constants.ENDPOINT}/{repository}", "log in (hf auth login, or set HF_TOKEN)"

            def among(*kinds: type[Exception]) -> bool:
                return any(isinstance(cause, kinds) for cause in causes)

            if among(GatedRepoError) or status == 403:
                what = f"is gated: accept its terms on {page}, then {login}"
            elif among(RepositoryNotFoundError) and status != 401:
                what = (
                    f"is not on {constants.ENDPOINT}: check its name (owner/name); a private one needs you to {login}"
                )
            elif status == 401:
                what = f"is gated, private or not there: see {page}, accept its terms if it has any, and {login}"
            elif local and among(*_hub_errors(), OSError):
                why = "HF_HUB_OFFLINE is set" if asked else f"{constants.ENDPOINT} cannot be reached"
                what = f"is not on this machine, and {why}: load it once with a network, or set HF_HOME to a folder that has it"
            elif among(*_hub_errors()):
                what = f"cannot be fetched ({_line(causes[-1])}): what has arrived is kept, try again"
            else:
                what = f"cannot be loaded: {_line(error)}"
            raise ClipeduError(f"{repository}{what_for and f' ({what_for})'} {what}") from None


def settings_of(repository: str) -> Path:
    """Fetch the settings and vocabularies of a model: the folder of them.

    Raises:
        ClipeduError: as `from_model_hub`.
    """
    from huggingface_hub import snapshot_download

    with from_model_hub(repository) as local:
        return Path(snapshot_download(repository, allow_patterns=SMALL, local_files_only=local))


@contextmanager
def told(name: str, what: str, remedy: str) -> Iterator[None]:
    """Turn errors of a library about a part of a model into one line.

    Those of the hub pass through, to `from_model_hub`.

    Args:
        name: of the model.
        what: part of it cannot be read, as in "its weights".
        remedy: what to do.
    Raises:
        ClipeduError: the block raised an error.
    """
    try:
        yield
    except ClipeduError:
        raise
    except Exception as error:  # noqa: BLE001  libraries have many, for one and the same damage
        if any(isinstance(cause, _hub_errors()) for cause in _causes(error)):
            raise
        raise ClipeduError(f"{name}: {what} cannot be read ({_line(error)}): {remedy}") from None


def _hub_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    return (*http_errors(), LocalEntryNotFoundError, OfflineModeIsEnabled)


def _causes(error: Any) -> Iterator[Exception]:
    """Yield an error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _line(error: Exception) -> str:
    """Return what an error says: its first line, and the next where that one ends in a colon."""
    if isinstance(error, KeyError) and error.args:
        return f"the entry {shorten(error, 200)} is missing"
    lines = [line.strip() for line in without_trace(error).splitlines() if line.strip()] or [type(error).__name__]
    return shorten(" ".join(lines[: 1 + lines[0].endswith(":")]), 250)
