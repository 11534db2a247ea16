"""Publish an exported folder on the Hugging Face Hub, in one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipedu.utils.errors import ClipeduError, quoted, shorten, without_trace
from clipedu.utils.hub import http_errors, quiet, reachable, status_of

_LOGIN = "hf auth login, or set HF_TOKEN, with a token that may write"


def check_hub(repository: str, *, private: bool = False) -> bool:
    """Check that a model can be published, before any work is done.

    Args:
        repository: "owner/name".
        private: it is to be private.
    Returns:
        whether the repository is there already.
    Raises:
        ClipeduError: no such name, no token or one of another account, no network, or a public repository that is to be private.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
        if not re.fullmatch(r"[^/]+/[^/]+", repository):
            raise HFValidationError("it must be OWNER/NAME")
    except HFValidationError as error:
        reason = str(error).splitlines()[0].partition(": ")[0]
        raise ClipeduError(f"{quoted(repository)} is no name of a repository: {reason}. Give OWNER/NAME") from None
    if constants.HF_HUB_OFFLINE:
        raise ClipeduError(f"{repository} cannot be published: HF_HUB_OFFLINE is set, unset it")
    if not get_token():
        raise ClipeduError(f"{repository} cannot be published without a token: {_LOGIN}")
    if not reachable(constants.ENDPOINT):
        raise ClipeduError(
            f"{repository} cannot be published: {constants.ENDPOINT} cannot be reached, check the network"
        )
    api = HfApi(endpoint=constants.ENDPOINT)
    with _explained(repository):
        _check_owner(api.whoami(), repository)
        if not api.repo_exists(repository):
            return False
        if private and not api.model_info(repository).private:
            raise ClipeduError(
                f"{repository} is there already, and public: leave --private out, make it private on its page, or give another name"
            )
        return True


def push(folder: Path, repository: str, *, changed: Mapping[str, str], private: bool = False) -> str:
    """Publish the files of a folder as a model, in one commit.

    Args:
        folder: of the export.
        repository: "owner/name"; made where it is not there.
        changed: texts of files that are others there than in the folder.
        private: of a repository that is made.
    Returns:
        the address of its page.
    Raises:
        ClipeduError: the hub refuses it, or the connection was lost.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi(endpoint=constants.ENDPOINT)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    adds = [
        CommitOperationAdd(name, changed[name].encode() if name in changed else path)
        for name, path in zip(names, files, strict=True)
    ]
    with _explained(repository), quiet(bars=True):
        api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, adds, commit_message="Export by clipedu")
    return f"{constants.ENDPOINT}/{repository}"


def _check_owner(account: Mapping[str, Any], repository: str) -> None:
    """Check that an account has the name that a repository begins with."""
    owner, name = repository.split("/")
    own = [account.get("name", ""), *(one.get("name", "") for one in account.get("orgs") or ())]
    if owner.lower() not in map(str.lower, own):
        raise ClipeduError(
            f"{repository} cannot be published: the token is of {own[0]!r}, who may not write for {owner!r}. Give {own[0]}/{name}"
            + (f", or a name of {', '.join(own[1:4])}" if own[1:] else "")
        )


def _to_do(status: int) -> str:
    """Say what may help after an answer of the hub."""
    if status == 404:
        return ": it was removed on the way, or HF_ENDPOINT is no hub"
    if status == 409:
        return ": it is changed by another one at this moment, try again"
    if status == 429:
        return ": it is asked too often, try again in some minutes"
    return ": the fault is the hub's, try again later" if status >= 500 else ""


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn errors of the hub about a model that is published into one line."""
    failures: tuple[type[Exception], ...] = (*http_errors(), OSError, ValueError, RuntimeError)
    try:
        yield
    except ClipeduError:
        raise
    except failures as failed:
        cause = failed.__cause__  # the client wraps what happened to a large file in a RuntimeError
        error = cause if isinstance(failed, RuntimeError) and isinstance(cause, Exception) else failed
        status = status_of(error)
        said = shorten((without_trace(error) or type(error).__name__).splitlines()[0], 200)
        owner = repository.partition("/")[0]
        if status == 401:
            what = f"the hub does not know this token: {_LOGIN}"
        elif status == 403:
            what = f"this token may not write there: {_LOGIN} for {owner!r}, or publish under your own name"
        elif status is not None:
            what = f"the hub answers {status} ({said}){_to_do(status)}"
        elif isinstance(error, (ValueError, RuntimeError)):
            what = f"the hub's client says: {said}"
        else:
            what = f"the connection failed ({said}): try again"
        raise ClipeduError(f"{repository} cannot be published: {what}") from None
