"""Error messages: every ClipeduError says what is wrong in one line."""

import pytest

from clipedu.utils.errors import ClipeduError


def message_of(call, *args, **kwargs) -> str:
    """The message of the ClipeduError that a call must raise."""
    with pytest.raises(ClipeduError) as caught:
        call(*args, **kwargs)
    return says(caught)


def says(caught) -> str:
    """The message of an error caught by `pytest.raises`, which must be one line."""
    text = str(caught.value)
    assert "\n" not in text
    return text
