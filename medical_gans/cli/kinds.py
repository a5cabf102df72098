"""Of what kind settings are that we ship as null, as an expression or as a list: their names tell it.

What is shipped as a switch, a number or a text, the command line reads as one. A value of another kind would end in the
traceback of whatever reads it first.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


class Kind(NamedTuple):
    """What a value must be, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(map(holds, value))


WHOLE = Kind(lambda value: isinstance(value, int) and not isinstance(value, bool), "give a whole number")
NUMBER = Kind(_is_number, "give a number")
PATH = Kind(_is_path, "give a path")
FILE = Kind(lambda value: _is_path(value) and bool(str(value)), "give a path")
PATHS = Kind(lambda value: _is_path(value) or _list_of(_is_path)(value), "give a path, or a list of paths")
METHODS = Kind(
    lambda value: PATHS.holds(value) or (isinstance(value, Mapping) and bool(value)),
    "give a path, a list of paths, or methods by name such as {'source_only': 'a.pt', 'adapted': 'b.pt'}",
)
NUMBERS = Kind(_list_of(_is_number), "give a list of numbers, such as [64, 64, 32]")
TEXTS = Kind(_list_of(lambda one: isinstance(one, str)), "give a list of names, such as [FLAIR, T1c]")
PLANES = Kind(lambda value: isinstance(value, str) or TEXTS.holds(value), "give axial, coronal, sagittal, or a list")
SPACING = Kind(
    lambda value: _list_of(lambda edge: edge is None or (_is_number(edge) and edge > 0))(value) and len(value) == 3,
    "give three positive numbers in mm, such as [1, 1, 2]; null for one that an image keeps",
)

BY_NAME = {
    **dict.fromkeys(("roi_size", "position", "second_window", "latent_seeds"), NUMBERS),
    **dict.fromkeys(("channels", "source_channels", "target_channels", "shown_channels", "missing"), TEXTS),
    **dict.fromkeys(("slice_batch", "tile", "uid_seed", "latent_seed", "max_patches"), WHOLE),
    **dict.fromkeys(("decay_epochs", "flat_epochs", "encoder_decay_epochs", "encoder_flat_epochs"), WHOLE),
    **dict.fromkeys(("weights", "dataset_dir", "initial_weights"), PATHS),
    **dict.fromkeys(("output_dir", "cache_dir", "shipped_dir", "features", "extractor"), PATH),
    "spacing": SPACING,
    "truncation": NUMBER,
    "planes": PLANES,
}
_NEEDED = frozenset({"weights", "channels"})  # null only where we ship null
_EXPRESSIONS = ("$", "@", "%")


def wrong_kinds(config: Mapping[str, Any], shipped: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with each setting of a config that is not of its kind; what stands as shipped is not looked at.

    Args:
        config: of a run, as it stands, references not resolved.
        shipped: the config that it was made from.
    """
    for name in BY_NAME.keys() & shipped.keys():
        standard, value = shipped[name], _plain(config.get(name))
        if value == standard or (isinstance(value, str) and value.startswith(_EXPRESSIONS)):
            continue
        compares = name == "weights" and "compare" in shipped  # methods by name, or generators by class
        kind = METHODS if compares else _kind(name, standard)
        if name in _NEEDED if value is None else not kind.holds(value):
            yield f"{name} is {'null' if value is None else repr(value)}; {kind.words}"


def _kind(name: str, standard: Any) -> Kind:
    if name == "spacing" and isinstance(standard, float | str):  # of the pixels of a patch
        return NUMBER
    return FILE if name == "weights" and standard is None else BY_NAME[name]


def _plain(value: Any) -> Any:
    """A value, or the text that the command line wrote as an expression because it begins like one."""
    if isinstance(value, str) and value.startswith("$"):
        try:
            text = ast.literal_eval(value[1:])
        except (ValueError, SyntaxError):
            return value
        return text if isinstance(text, str) and not text.startswith(_EXPRESSIONS) else value
    return value
