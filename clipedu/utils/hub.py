"""Manners towards the Hugging Face hub: ask first whether it is there, and keep its clients' chatter off the screen."""

from __future__ import annotations

import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from clipedu.utils.errors import ClipeduError


def reachable(address: str) -> bool:
    """Whether a server answers. The hub's own client would try for most of a minute."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:  # an answer too
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)  # the hub's client may have other certificates
    return True


@contextmanager
def quiet(*, bars: bool = False) -> Iterator[None]:
    """No warnings and log lines of transformers and the hub's client while this context is open; progress bars if `bars`."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils import logging as hub

    loggers = [hub]
    if "transformers" in sys.modules:  # else it has nothing to say, and takes seconds to load
        from transformers.utils import logging as library

        loggers.append(library)
    before, hidden = [logger.get_verbosity() for logger in loggers], are_progress_bars_disabled()
    for logger in loggers:
        logger.set_verbosity_error()
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.set_verbosity(level)
        if not hidden:
            enable_progress_bars()


def check_reachable(what: str) -> None:
    """Say within seconds that there is no way to the hub. Raises ClipeduError, in which `what` is what was wanted from it."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ClipeduError(f"{what} cannot be fetched: HF_HUB_OFFLINE is set, unset it")
    if not reachable(constants.ENDPOINT):
        raise ClipeduError(
            f"{what} cannot be fetched: {constants.ENDPOINT} cannot be reached, look to the network (or HF_ENDPOINT, for a mirror)"
        )


def http_error() -> type[Exception]:
    """What all errors of the HTTP library are, whichever package of it the hub's client builds on."""
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError.__bases__[0]


def status_of(error: Exception) -> int | None:
    """The status of the answer that an error is about; None where there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Errors of the hub's client about a data set's repository become one line that says what to do."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
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
    except http_error() as error:
        status = status_of(error)
        if isinstance(error, GatedRepoError) or status == 403:
            told = f"is gated: accept its terms on {page}, then {login}, and give the same command again"
        elif status == 401:
            told = f"is gated, private or gone: see {page}, accept its terms if it has any, and {login}"
        elif isinstance(error, RepositoryNotFoundError):
            told = f"is not on {constants.ENDPOINT}: it was removed or renamed, look for a newer clipedu"
        elif isinstance(error, RevisionNotFoundError):
            told = "no longer has the revision that the manifest pins: look for a newer clipedu"
        elif isinstance(error, EntryNotFoundError):
            told = f"no longer has this file: {error.response.url}"
        elif status is not None:
            told = f"cannot be fetched, the hub answers {status}: what has arrived is kept, try again later"
        else:
            why = str(error) or type(error).__name__
            told = f"cannot be fetched ({why}): what has arrived is kept, the same command goes on"
        raise ClipeduError(f"{repository} {told}") from None
