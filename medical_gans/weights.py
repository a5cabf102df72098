"""Weights and their card: ``<name>.pt`` and ``<name>.json``, which rebuild a network without further settings."""

from __future__ import annotations

import json
import logging
import pydoc
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medical_gans.errors import InputError, SettingError
from medical_gans.io.writing import whole_file

logger = logging.getLogger(__name__)

ALLOWED = ("medical_gans.", "monai.networks.", "torch.nn.")
"""Where the classes of a card may come from: weights are exchanged, and a card must not run anything else."""

_FACTORIES = "medical_gans.networks."


@dataclass(frozen=True)
class WeightsCard:
    """What weights are: ``<name>.json`` beside ``<name>.pt``.

    Attributes:
        network_def: the network as it was configured: ``_target_`` and its arguments.
        spacing: voxel size in mm along the canonical axes; None where it was left as it came.
        plane: of the slices; several, with commas between them, are averaged at inference.
        adjacent: slices stacked as channels.
        fingerprint: of the training images, as `fingerprint.Fingerprint.to_json` gives it.
        classes: names of the classes of a conditional generator, in the order of its labels.
        window: HU that [-1, 1] stands for, where the encoding is linear.
        channels: names of the sequences of the labelled source, in the network's order.
        target_channels: as `channels`, of the domain that the network was adapted to.
        adaptation_patients: the cases of that domain, which were seen without labels: names and hashes of images (see
            `evaluation.lesion_patients.image_hashes`), or in older cards names alone.
        patch_size: voxels of a training patch along each axis.
        latent_size: numbers that a generator makes an image from; None where the network itself knows.
    """

    spacing: Sequence[float | None]
    plane: str = "axial"
    adjacent: int = 1
    network_def: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] | None = None
    classes: Sequence[str] = ()
    window: Sequence[float] | None = None
    channels: Sequence[str] = ()
    target_channels: Sequence[str] = ()
    adaptation_patients: Mapping[str, str] | Sequence[str] = ()
    patch_size: Sequence[int] = ()
    latent_size: int | None = None

    def save(self, weights: Path) -> Path:
        """Write the card of a weights file.

        Raises:
            OutputError: the file cannot be written.
        """
        path = card_path(weights)
        content = asdict(self)
        content = {"network_def": content.pop("network_def"), **content}
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def of(cls, weights: Path) -> WeightsCard | None:
        """The card of a weights file, None where there is none; cards of earlier versions are understood.

        Raises:
            InputError: the card cannot be read.
        """
        path = card_path(weights)
        if not path.is_file():
            return None
        try:
            return cls(**_of_today(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no card of weights. Copy it again, or remove it.") from error


def card_path(weights: str | Path) -> Path:
    """Where the card of a weights file is."""
    return Path(weights).with_suffix(".json")


def load_network(weights: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """The network that a card tells of, with its weights, ready to be used.

    Raises:
        InputError: weights or card are missing, damaged, or do not belong together.
        SettingError: the card names a class that is not allowed.
    """
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give the path of a weights file.")
    card = WeightsCard.of(path)
    if card is None or not card.network_def:
        found = "has no card beside it" if card is None else "has a card that does not say so"
        raise InputError(
            f"Which network {path.name} is for is not known: it {found} ({card_path(path).name}). Copy the card that "
            "training wrote with the weights."
        )
    return load_weights(build_network(card.network_def, card_path(path).name), path).to(device)


def build_network(network_def: Mapping[str, Any], source: str = "network_def") -> nn.Module:
    """The network of a ``network_def``, untrained.

    Args:
        network_def: ``_target_``, a class or one of our own network functions, and its arguments, which may hold
            further such entries.
        source: what to call it in an error.

    Raises:
        SettingError: it is none, its class is not allowed or not found, or does not take the arguments.
    """
    network = _built(network_def, source)
    if not isinstance(network, nn.Module):
        raise SettingError(f"{source} names no network; write `_target_: ` and a class as monai.networks.nets.UNet.")
    return network


def check_network(network_def: Mapping[str, Any], source: str = "network_def") -> None:
    """Refuse a ``network_def`` that `build_network` would not build, without building it.

    Raises:
        SettingError: as `build_network`.
    """
    if not isinstance(network_def, Mapping) or "_target_" not in network_def:
        raise SettingError(
            f"{source} must be an entry with `_target_`, so that the card of the weights can tell how to build it."
        )
    for entry in _entries(network_def):
        _located(entry["_target_"], source)


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
    return _with_weights(network, _weights_in(path), path).eval()


def _weights_in(path: Path) -> Mapping[str, Tensor]:
    weights = read_tensors(path)
    if not isinstance(weights, Mapping) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise InputError(f"{path} holds no network weights. Give a file such as models/mr_to_ct_head.pt or model.pt.")
    return weights


def _with_weights(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> nn.Module:
    own = network.state_dict()
    odd = sorted(set(own) ^ set(weights)) or sorted(n for n in own if own[n].shape != weights[n].shape)
    if odd:
        raise InputError(
            f"The weights in {path} do not fit the network: {len(odd)} of {len(own)} tensors differ, first '{odd[0]}'. "
            f"Give the weights that belong to {card_path(path).name}, or to network_def where there is no card."
        )
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    )
    return network


def initialised(network: nn.Module, weights: str | Path | Sequence[str | Path] | None) -> nn.Module:
    """The network, starting from a weights file where one is given; ready to be trained.

    Whole layers that the file lacks, such as a branch that the network did not have before, start anew and are named.
    Several files of one origin, each trained on from the same weights, give their mean, which is often better than each
    (Wortsman et al. 2022, Model soups).

    Raises:
        InputError: a file is missing or damaged, holds what the network has no place for, or other tensors than the
            first one.
    """
    if not weights:
        return network
    files = [Path(weights)] if isinstance(weights, str | Path) else [Path(one) for one in weights]
    file, found, own = files[0], _mean_of(files), network.state_dict()
    known = {name.rpartition(".")[0] for name in found}
    if new := [name for name in own if name.rpartition(".")[0] not in known]:
        logger.info("%s lacks %d of %d tensors; these start anew: %s.", file, len(new), len(own), ", ".join(new))
    return _with_weights(network, {name: own[name] for name in new} | dict(found), file).train()


def _mean_of(files: Sequence[Path]) -> Mapping[str, Tensor]:
    """The tensors of weights files, averaged; of one, as they are."""
    first, *others = (_weights_in(file) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if {name: tensor.shape for name, tensor in first.items()} != {n: t.shape for n, t in other.items()}:
            raise InputError(f"{files[0]} and {file} are weights of different networks. Average those of one only.")
    if not others:
        return first
    every = [first, *others]
    return {
        name: torch.stack([one[name].float() for one in every]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in first.items()
    }


def read_tensors(path: Path) -> Any:
    """What a file of torch holds: tensors and plain values, nothing that could be run.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} does not exist. Give the path of a weights or checkpoint file.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {first_line(error)}. Copy or train it again.") from error


def first_line(error: Exception) -> str:
    """Of what an error says, for a sentence of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def _built(entry: Any, source: str) -> Any:
    if isinstance(entry, list | tuple):
        return [_built(value, source) for value in entry]
    if not isinstance(entry, Mapping):
        if isinstance(entry, str) and entry.startswith(("$", "@", "%")):
            raise SettingError(f"{source} holds {entry!r}; a card holds plain values only.")
        return entry
    if "_target_" not in entry:
        return {key: _built(value, source) for key, value in entry.items()}
    made = _located(entry["_target_"], source)
    arguments = {key: _built(value, source) for key, value in entry.items() if not _is_for_monai(key)}
    try:
        return partial(made, **arguments) if entry.get("_mode_") == "callable" else made(**arguments)
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        target = entry["_target_"]
        raise SettingError(f"{source}: {target} does not take these arguments: {first_line(error)}.") from error


def _located(target: Any, source: str) -> Any:
    """A class of networks, or one of our functions that make them; nothing else that such a name leads to."""
    if not isinstance(target, str) or not target.startswith(ALLOWED):
        raise SettingError(
            f"{source} names {target}, which a card may not: only classes of "
            f"{', '.join(place[:-1] for place in ALLOWED)}. Use one of these."
        )
    try:
        found = pydoc.locate(target)
    except pydoc.ErrorDuringImport:
        found = None
    home = f"{getattr(found, '__module__', '')}."
    is_network = isinstance(found, type) and issubclass(found, nn.Module) and home.startswith(ALLOWED)
    if not is_network and not (callable(found) and home.startswith(_FACTORIES)):
        raise SettingError(f"{source} names {target}, and there is no such network here. Check name and versions.")
    return found


def _entries(value: Any) -> list[Mapping[str, Any]]:
    """All entries with ``_target_``, wherever they are."""
    if isinstance(value, list | tuple):
        return [entry for item in value for entry in _entries(item)]
    if not isinstance(value, Mapping):
        return []
    return ([value] if "_target_" in value else []) + [e for item in value.values() for e in _entries(item)]


def _is_for_monai(key: str) -> bool:
    return key.startswith("_") and key.endswith("_")


def _of_today(card: dict[str, Any]) -> dict[str, Any]:
    """A card as it is written today; before 2.0 it held arguments of a network that the workflow knew."""
    if "network" not in card:
        return card
    arguments = dict(card.pop("network"))
    return {**card, "network_def": _network_of(arguments, card.get("adjacent", 1)) if arguments else {}}


def _network_of(arguments: dict[str, Any], adjacent: int) -> dict[str, Any]:
    if "target" in arguments:
        return {"_target_": arguments.pop("target"), **arguments}
    if "name" in arguments:
        name, options = arguments.pop("name"), arguments.pop("options", None)
        home = "medical_gans.networks" if name == "MultiScaleSegmenter" else "monai.networks.nets"
        return {"_target_": f"{home}.{name}", "spatial_dims": 3, **arguments, **(options or {})}
    if "encoder_width" in arguments:
        return _detector_of(arguments)
    if "preset" in arguments:
        return _generator_of(arguments)
    if "num_features" in arguments:
        return {"_target_": "medical_gans.networks.NoduleClassifier", **arguments}
    if "layers" in arguments:
        return {"_target_": "medical_gans.networks.patch_discriminator", **arguments}
    channels = {"in_channels": adjacent, "out_channels": adjacent}
    return {"_target_": "medical_gans.networks.ResnetGenerator", **channels, **arguments}


def _generator_of(arguments: dict[str, Any]) -> dict[str, Any]:
    home = "medical_gans.networks"
    if arguments.pop("preset") == "dcgan":
        known = ("spatial_dims", "size", "latent_size", "width")
        return {"_target_": f"{home}.DcganGenerator", **{key: arguments[key] for key in known if key in arguments}}
    return {"_target_": f"{home}.NoduleGenerator", **arguments}


def _detector_of(arguments: dict[str, Any]) -> dict[str, Any]:
    home, size, latent_size = "medical_gans.networks", arguments["size"], arguments["latent_size"]
    critic, encoder = arguments.pop("critic_width"), arguments.pop("encoder_width")
    hidden_radius = arguments.pop("hidden_radius", 0)
    encoder_def = {"_target_": f"{home}.PatchEncoder", "size": size, "latent_size": latent_size, "width": encoder}
    return {
        "_target_": f"{home}.AnomalyDetector",
        "generator": _generator_of({"num_classes": 0, **arguments}),
        "encoder": encoder_def,
        "critic": {"_target_": f"{home}.PatchCritic", "size": size, "width": critic},
        "hidden_radius": hidden_radius,
    }
