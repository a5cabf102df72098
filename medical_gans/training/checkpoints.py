"""Everything a run needs to continue bit for bit.

Files appear whole or not at all. They hold tensors and plain values only, so that they load with
``weights_only=True``.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from medical_gans.errors import InputError
from medical_gans.io.writing import whole_file
from medical_gans.weights import first_line, read_tensors


class Stateful(Protocol):
    """Whatever can hand out its state and take it back."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


def random_states() -> dict[str, Any]:
    """States of the global random generators of Python, numpy and torch, as plain values and tensors."""
    version, internal, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(internal), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(state: Mapping[str, Any]) -> None:
    """Put the global random generators back to where `random_states` found them."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def save_checkpoint(path: Path, parts: Mapping[str, Stateful], counters: Mapping[str, int | float]) -> None:
    """Write the state of all parts, the counters, and the random generators.

    Raises:
        OutputError: the file cannot be written.
    """
    state = {
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "counters": dict(counters),
        "random": random_states(),
    }
    with whole_file(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path, parts: Mapping[str, Stateful]) -> dict[str, int | float]:
    """Restore every part and the random generators.

    Returns:
        The counters.

    Raises:
        InputError: the file is missing, damaged, or belongs to a run with other networks.
    """
    state = read_tensors(path)
    if not isinstance(state, dict) or "parts" not in state:
        raise InputError(f"{path} is not a checkpoint of a training run. Give the checkpoint.pt that the run wrote.")
    missing = sorted(set(parts) ^ set(state["parts"]))
    if missing:
        raise InputError(
            f"{path} was written by another kind of run (differs in {', '.join(missing)}). "
            "Resume with the settings of the first run, or choose a new output_dir."
        )
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not fit the networks of this run: {first_line(error)}. "
            "Resume with the settings of the first run, or choose a new output_dir."
        ) from error
    restore_random_states(state["random"])
    return state["counters"]
