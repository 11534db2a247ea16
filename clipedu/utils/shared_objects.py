"""Share an object with processes: its arrays are mapped, not copied.

    share(data, path)       pickles it, with the large arrays and tensors beside the pickle
    open_shared(path)       the same object in another process; all that open it share the pages of its arrays

An array that a process writes to becomes its own, page by page: neither the file nor another process sees that.

The file is read by those that its writer starts, and by nobody else: a pickle can run code.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from clipedu.utils.files import atomic_write

ALIGNED = 64  # bytes, as torch and numpy align what they allocate
SMALL = 1 << 16  # bytes of an array that stays in the pickle
_TAIL = struct.Struct("<QQ")  # where the pickle begins, and its bytes


class NotShareable(TypeError):
    """An object that another process cannot open."""


class _Pickler(pickle.Pickler):
    """Pickles tensors as arrays, and refuses what is defined in the main module, which others do not run."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__":
            raise NotShareable(f"{obj.__qualname__} is defined in the main module, which other processes do not run")
        if type(obj) is torch.Tensor and _is_plain(obj):
            return torch.from_numpy, (obj.numpy(),)
        return NotImplemented


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and not tensor.requires_grad
        and not tensor.is_conj()
        and not tensor.is_neg()
        and tensor.dtype is not torch.bfloat16
        and not tensor.is_quantized
    )


def share(obj: Any, path: Path, remedy: str = "") -> None:
    """Write an object to a file that other processes can open.

    Args:
        obj: anything that can be pickled.
        path: of the file.
        remedy: what to do if it cannot be written, for the error.
    Raises:
        NotShareable: a part of it cannot be pickled, or is defined in the main module.
        ClipeduError: the file cannot be written.
    """
    with atomic_write(path, remedy=remedy) as partial, partial.open("wb") as file:
        spans: list[tuple[int, int]] = []

        def beside(buffer: pickle.PickleBuffer) -> bool:
            """Write a buffer to the file; return whether it has to stay in the pickle."""
            raw = buffer.raw()
            if raw.nbytes < SMALL:
                return True
            file.write(bytes(-file.tell() % ALIGNED))
            spans.append((file.tell(), raw.nbytes))
            file.write(raw)
            return False

        pieces = _Pieces()
        try:
            _Pickler(pieces, protocol=5, buffer_callback=beside).dump(obj)
        except NotShareable:
            raise
        except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
            raise NotShareable(f"it cannot be pickled: {error}") from None
        begins = file.tell()
        pickle.dump((spans, b"".join(pieces.parts)), file, protocol=5)
        file.write(_TAIL.pack(begins, file.tell() - begins))


class _Pieces:
    """A file for a pickler, in memory: what is beside the pickle goes to the true file meanwhile."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self.parts.append(bytes(piece))
        return len(piece)


def open_shared(path: Path) -> Any:
    """Return the object in a file that `share` has written.

    The file may be removed once it is open.
    """
    with path.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    begins, size = _TAIL.unpack(whole[-_TAIL.size :])
    spans, pickled = pickle.loads(whole[begins : begins + size])
    return pickle.loads(pickled, buffers=[whole[start : start + length] for start, length in spans])
