"""Memory that there is, and errors about memory that there is not."""

from __future__ import annotations

import numpy
import pytest
import torch

from clipedu.utils.memory import free_memory, host_memory, is_out_of_memory, out_of_memory


def test_errors_of_torch_numpy_and_python_are_known():
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(2**46)
    with pytest.raises(MemoryError) as of_numpy:
        numpy.empty(2**50)
    assert out_of_memory(of_torch.value).startswith(
        "the memory is not enough: 281475 GB more were asked for than there are."
    )
    assert "8.00 PiB more were asked for" in out_of_memory(of_numpy.value)
    gpu = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of ...\nmany lines"
    )
    assert "20.00 GiB more were asked for" in out_of_memory(gpu)
    for error in (of_torch.value, of_numpy.value, gpu, MemoryError()):
        assert is_out_of_memory(error) and "\n" not in out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("shapes differ"))


def test_free_memory():
    assert host_memory() > 2**20
    assert free_memory(torch.device("cpu")) > 2**20 and free_memory(torch.device("meta")) is None
