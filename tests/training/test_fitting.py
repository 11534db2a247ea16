"""What does not fit is one line; all else goes through as it is."""

import pytest

from clipedu.training.fitting import fitting
from clipedu.utils.errors import ClipeduError


def test_an_error_becomes_a_line_that_begins_with_what_does_not_fit():
    with pytest.raises(ClipeduError) as caught, fitting("the state in step-2"):
        raise KeyError("exp_avg\nand more")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("the state in step-2 does not fit the run: KeyError: ")
    with pytest.raises(ClipeduError, match="^the state does not fit the run: no group$"), fitting("the state"):
        raise ClipeduError("no group")


@pytest.mark.parametrize(
    ("what", "error"),
    [("", ValueError("as it was")), ("x", KeyboardInterrupt()), ("x", RuntimeError("CUDA out of memory. Tried"))],
)
def test_what_is_no_fault_of_the_state_stays_as_it_is(what, error):
    with pytest.raises(type(error)) as caught, fitting(what):
        raise error
    assert caught.value is error
