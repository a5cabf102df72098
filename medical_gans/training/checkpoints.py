"""Everything a run needs to continue bit for bit, and the weights that ship.

Files appear whole or not at all. They hold tensors and plain values only, so that they load with
``weights_only=True``.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from medical_gans.errors import InputError
from medical_gans.io.writing import whole_file


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
    state = _load(path)
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
            f"{path} does not fit the networks of this run: {_first_line(error)}. "
            "Resume with the settings of the first run, or choose a new output_dir."
        ) from error
    restore_random_states(state["random"])
    return state["counters"]


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a flat state dict, as MONAI bundles ship it."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as temporary:
        torch.save(weights, temporary)


def load_weights(network: nn.Module, path: Path) -> nn.Module:
    """Load a flat state dict into a network, strictly, and put the network in evaluation mode.

    Raises:
        InputError: the file is missing, damaged, or does not fit the network.
    """
    weights = _load(path)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise InputError(f"{path} holds no network weights. Give a file such as models/mr_to_ct_head.pt or model.pt.")
    own = network.state_dict()
    odd = sorted(set(own) ^ set(weights)) or sorted(n for n in own if own[n].shape != weights[n].shape)
    if odd:
        raise InputError(
            f"The weights in {path} do not fit the network: {len(odd)} of {len(own)} tensors differ, first '{odd[0]}'. "
            "Set network_def (width, blocks, norm, channels) as it was in training, or give other weights."
        )
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    )
    return network.eval()


@dataclass(frozen=True)
class WeightsCard:
    """What weights were trained for: ``<name>.json`` beside ``<name>.pt``.

    Attributes:
        spacing: voxel size in mm along the canonical axes; None where it was left as it came.
        plane: of the slices.
        adjacent: slices stacked as channels.
        network: arguments of the network.
        fingerprint: of the training images, as `fingerprint.Fingerprint.to_json` gives it.
        classes: names of the classes of a conditional generator, in the order of its labels.
        window: HU that [-1, 1] stands for, where the encoding is linear.
        channels: names of the sequences of the labelled source, in the network's order.
        target_channels: as `channels`, of the domain that the network was adapted to.
        adaptation_patients: the cases of that domain, which were seen without labels: names and hashes of images (see
            `evaluation.lesion_patients.image_hashes`), or in older cards names alone.
        patch_size: voxels of a training patch along each axis.
    """

    spacing: Sequence[float | None]
    plane: str = "axial"
    adjacent: int = 1
    network: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] | None = None
    classes: Sequence[str] = ()
    window: Sequence[float] | None = None
    channels: Sequence[str] = ()
    target_channels: Sequence[str] = ()
    adaptation_patients: Mapping[str, str] | Sequence[str] = ()
    patch_size: Sequence[int] = ()

    def save(self, weights: Path) -> Path:
        """Write the card of a weights file.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(weights).with_suffix(".json")
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def of(cls, weights: Path) -> WeightsCard | None:
        """The card of a weights file, None where there is none.

        Raises:
            InputError: the card cannot be read.
        """
        path = Path(weights).with_suffix(".json")
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} is no card of weights. Copy it again, or remove it.") from error


def initialised(network: nn.Module, weights: str | Path | None) -> nn.Module:
    """The network, starting from a weights file where one is given; ready to be trained."""
    return load_weights(network, Path(weights)).train() if weights else network


def _load(path: Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give the path of a weights or checkpoint file.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {_first_line(error)}. Copy or train it again.") from error


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
