"""Manners towards the Hugging Face hub: ask first whether it is there, and keep its clients' chatter off the screen."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


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
    from transformers.utils import logging as library

    before = hub.get_verbosity(), library.get_verbosity(), are_progress_bars_disabled()
    hub.set_verbosity_error()
    library.set_verbosity_error()
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        hub.set_verbosity(before[0])
        library.set_verbosity(before[1])
        if not before[2]:
            enable_progress_bars()
