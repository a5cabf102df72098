"""Memory of activations, kept by the process between the layers that need it.

The C library gives large blocks back to the system as soon as they are freed. Each layer then gets new pages, which the
system clears first: a tenth to a third of the time of a small network on a CPU. Volumes are larger than the limit here
and are given back as before.
"""

from __future__ import annotations

import ctypes
import os
import platform

_LARGEST_KEPT = 32 << 20  # bytes of one block; activations of a batch of slices are smaller, volumes larger
_KEPT_IN_ALL = 256 << 20  # bytes at most that stay free at the end of the heap
_USUAL = 128 << 10  # bytes: what the library begins with, for both
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def keep_freed_memory() -> bool:
    """Ask the GNU C library to keep what small blocks leave; nothing elsewhere, or where the user has set it otherwise.

    What is free by then is returned: it was no layer's.

    Returns:
        Whether it does.
    """
    kept = _set(_LARGEST_KEPT, _KEPT_IN_ALL)
    if kept:
        ctypes.CDLL(None).malloc_trim(0)
    return kept


def give_back_freed_memory() -> None:
    """Return what was kept, and keep no more, once the network has done its work: what follows is no layer."""
    if _set(_USUAL, _USUAL):
        ctypes.CDLL(None).malloc_trim(0)


def _set(largest: int, in_all: int) -> bool:
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, largest)) and bool(mallopt(_TRIM_THRESHOLD, in_all))
