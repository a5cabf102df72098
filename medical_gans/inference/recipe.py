"""What an object of a config is, in plain values, so that a case is done again when a transform changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

_UNIMPORTANT = {"sw_batch_size", "sw_device", "device", "progress"}  # the result does not depend on them


def recipe(value: Any, seen: tuple[int, ...] = ()) -> Any:
    """Class and public attributes of an object, and of those that it holds, for JSON.

    What only says where and how fast to compute is left out.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return [list(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()]
    if isinstance(value, Path):
        return value.name
    if id(value) in seen:
        return "..."
    seen = (*seen, id(value))
    if isinstance(value, Mapping):
        return {str(key): recipe(entry, seen) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [recipe(entry, seen) for entry in value]
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return _name(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return _name(value)
    public = {name: one for name, one in vars(value).items() if not name.startswith("_") and name not in _UNIMPORTANT}
    return {"class": _name(type(value)), **{name: recipe(one, seen) for name, one in sorted(public.items())}}


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"
