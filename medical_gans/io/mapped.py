"""Large volumes in files without a name, so that a series of any length needs no more memory than a short one.

Such a volume is an ordinary array over a mapped file. Its pages are those of the file: the system writes them out and
drops them where memory is short, and what looks at a volume slab by slab gives them back as it goes. The file has no
name from its first moment on, so that nothing of it stays behind, whatever ends the process.

Small volumes stay in memory, where every pass over them is fastest.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import DTypeLike

_LEAST = 48 << 20  # bytes of a volume that is mapped: a head of 256^3 voxels in 16 bits stays in memory
_SLAB = 16 << 20  # bytes that are looked at before their pages are given back
_ZEROS = bytes(1 << 20)

_PLACES: list[Path] = []  # of this process, which does one case at a time; the last counts
_MAPPED: weakref.WeakKeyDictionary[mmap.mmap, range] = weakref.WeakKeyDictionary()  # with their addresses


@contextmanager
def large_volumes_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep large volumes that are made meanwhile in files of `folder`, which must be on a disk, not in memory."""
    _PLACES.append(Path(folder))
    try:
        yield
    finally:
        _PLACES.pop()


def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """An array in Fortran order; mapped where it is large and `large_volumes_in` names a folder, then zero.

    Where the disk has no room for it, or cannot map files, it is in memory.
    """
    mapped = _mapped(shape, np.dtype(dtype))
    return np.empty(shape, dtype, order="F") if mapped is None else mapped


def zeros(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """As `empty`, zero everywhere."""
    mapped = _mapped(shape, np.dtype(dtype))
    return np.zeros(shape, dtype, order="F") if mapped is None else mapped  # a new file is zero


def full(shape: Sequence[int], value: float, dtype: DTypeLike) -> np.ndarray:
    """As `empty`, with one value everywhere."""
    array = empty(shape, dtype)
    for slab in slabs(array):
        slab[...] = value
    return array


def converted(array: np.ndarray, dtype: DTypeLike, offset: float | None = None) -> np.ndarray:
    """A copy as another type in Fortran order, its axes as they are stored; `offset` is taken from it, in that type."""
    order = np.argsort([abs(stride) for stride in array.strides], kind="stable")
    target = empty([array.shape[axis] for axis in order], dtype)
    copy = target.transpose(np.argsort(order))
    for part in parts(array):
        copy[part] = array[part]
        if offset is not None:
            copy[part] -= copy.dtype.type(offset)
    return copy


def is_mapped(array: np.ndarray) -> bool:
    """Whether the pages of an array are those of a file here."""
    if not _MAPPED:
        return False
    address = array.__array_interface__["data"][0]  # a tensor between two arrays hides what they share
    return any(address in addresses for addresses in list(_MAPPED.values()))


def give_back() -> None:
    """Let the system take the pages of all mapped volumes; what looks at them next gets them from the file."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for mapped in list(_MAPPED):
        mapped.madvise(mmap.MADV_DONTNEED)


def parts(array: np.ndarray) -> Iterator[tuple[slice, ...]]:
    """Where slabs of an array are, along the axis that it is stored along; their pages are given back after each.

    An array that is not mapped is one part.
    """
    if not (array.size and is_mapped(array)):
        yield (slice(None),) * array.ndim
        return
    steps = [abs(stride) if size > 1 else 0 for stride, size in zip(array.strides, array.shape, strict=True)]
    slowest = int(np.argmax(steps))
    thick = max(1, _SLAB // max(1, steps[slowest]))
    for begin in range(0, array.shape[slowest], thick):
        yield (slice(None),) * slowest + (slice(begin, begin + thick),) + (slice(None),) * (array.ndim - slowest - 1)
        give_back()


def slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """Views of an array that make it up, see `parts`."""
    for part in parts(array):
        yield array[part]


def looked_up(view: np.ndarray) -> np.ndarray:
    """What a view shows, as an array in memory, where the volume behind it is mapped; the view itself elsewhere."""
    if not is_mapped(view):
        return view
    copy = np.empty_like(view)  # with its order of axes
    for part in parts(view):
        copy[part] = view[part]
    return copy


def extremes(array: np.ndarray) -> tuple[np.generic, np.generic]:
    """Smallest and largest value; NaN where there is one."""
    found = [(slab.min(), slab.max()) for slab in slabs(array)]
    low, high = np.array([low for low, _ in found]).min(), np.array([high for _, high in found]).max()
    return low, high


def _mapped(shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
    size = math.prod(shape) * dtype.itemsize
    if not _PLACES or size < _LEAST:
        return None
    try:
        return np.ndarray(tuple(shape), dtype, _file_of(size, _PLACES[-1]), order="F")
    except OSError:
        return None


def _file_of(size: int, folder: Path) -> mmap.mmap:
    with tempfile.TemporaryFile(dir=folder) as file:
        _reserve(file, size)
        mapped = mmap.mmap(file.fileno(), size)
    first = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    _MAPPED[mapped] = range(first, first + size)
    return mapped


def _reserve(file: IO[bytes], size: int) -> None:
    """Room on the disk: a full disk is found here, and not by a signal while a page is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for begin in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - begin])
    file.flush()
