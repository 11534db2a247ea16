"""Helpers for the Hugging Face Hub: reach it, explain its errors."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clipedu.utils.errors import ClipeduError


def reachable(address: str) -> bool:
    """Check whether a server answers, within seconds.

    The Hub's own client retries for most of a minute.
    """
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:  # an answer too
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)  # the Hub's client may have other certificates
    return True


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """Silence log lines of transformers and the Hub's client.

    Their progress bars are silenced too, unless `bars`.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils import logging as hub

    loggers: list[Any] = [hub]
    own_bars = False  # of transformers, where weights are loaded
    if "transformers" in sys.modules:  # else it logs nothing, and takes seconds to load
        from transformers.utils import logging as library

        loggers.append(library)
        own_bars = library.is_progress_bar_enabled()
    before, hidden = [logger.get_verbosity() for logger in loggers], are_progress_bars_disabled()
    for logger in loggers:
        logger.set_verbosity_error()
    if not bars:
        disable_progress_bars()
        if own_bars:
            library.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.set_verbosity(level)
        if own_bars:
            library.enable_progress_bar()  # the Hub's, too
        (disable_progress_bars if hidden else enable_progress_bars)()


def check_reachable(what: str) -> None:
    """Raise an error within seconds if the Hub cannot be reached.

    Args:
        what: what is wanted from it, for the error.
    Raises:
        ClipeduError: HF_HUB_OFFLINE is set, or the Hub does not answer.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ClipeduError(f"{what} cannot be fetched: HF_HUB_OFFLINE is set, unset it")
    if not reachable(constants.ENDPOINT):
        raise ClipeduError(
            f"{what} cannot be fetched: {constants.ENDPOINT} cannot be reached, check the network (or HF_ENDPOINT, for a mirror)"
        )


def http_errors() -> tuple[type[Exception], ...]:
    """Return the errors of the Hub's client and of its HTTP library.

    The library is httpx, or httpx2 in newer versions.

    The client wraps the server's answers in an error of its own, but lets a lost connection through as the library's.
    """
    from huggingface_hub.errors import HfHubHTTPError  # loads the library

    libraries = (sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules)
    return (HfHubHTTPError, *(library.HTTPError for library in libraries))


def status_of(error: Exception) -> int | None:
    """Return the HTTP status an error is about; None without an answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Turn errors of the Hub's client into one line that says what to do.

    Args:
        repository: the data set's, which the errors are about.
    Raises:
        ClipeduError: the block raised one.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    page = f"{constants.ENDPOINT}/datasets/{repository}"
    login = "log in (hf auth login, or set HF_TOKEN)"
    if get_token():
        login = "log in with an account that may (hf auth login, or another HF_TOKEN); the token that is set may not"
    try:
        yield
    except HFValidationError as error:
        raise ClipeduError(f"{repository!r} is no name of a repository: {error}") from None
    except http_errors() as error:
        status = status_of(error)
        if isinstance(error, GatedRepoError) or status == 403:
            what = f"is gated: accept its terms on {page}, then {login}, and give the same command again"
        elif status == 401:
            what = f"is gated, private or gone: see {page}, accept its terms if it has any, and {login}"
        elif isinstance(error, RepositoryNotFoundError):
            what = f"is not on {constants.ENDPOINT}: it was removed or renamed, look for a newer clipedu"
        elif isinstance(error, RevisionNotFoundError):
            what = "no longer has the revision that the manifest pins: look for a newer clipedu"
        elif isinstance(error, RemoteEntryNotFoundError):
            what = f"no longer has this file: {error.response.url}"
        elif status is not None:
            what = f"cannot be fetched, the hub answers {status}: what has arrived is kept, try again later"
        else:
            why = str(error) or type(error).__name__
            what = f"cannot be fetched ({why}): what has arrived is kept, the same command continues"
        raise ClipeduError(f"{repository} {what}") from None
