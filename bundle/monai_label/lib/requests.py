"""What clients may set: settings of a stage by their names, checked before they reach a config."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from medical_gans.cli.config_files import configs_dir, settings_of
from medical_gans.cli.settings import nearest
from medical_gans.errors import SettingError

# fmt: off
_OF_THE_SERVER = frozenset({
    "all_series", "bundle_root", "called_ae", "calling_ae", "dataset_dir", "initial_weights", "output_dir", "patch",
    "resume", "send", "target_dir", "translated_dir", "uid_seed", "weights", "write_dicom",
})
_OF_CLIENTS = frozenset({
    "background", "bundle_path", "client_id", "description", "foreground", "gpus", "image", "images", "label",
    "label_info", "label_tag", "labels", "local_rank", "logging", "max_batch_size", "max_workers", "model",
    "multi_gpu", "name", "reset_state", "restore_label_idx", "result_compress", "result_dtype", "result_extension",
    "roi", "save_label", "session", "slice", "timeout", "user",
})
"""What MONAI Label, 3D Slicer and OHIF add to every request."""
# fmt: on
_EVALUATED = ("$", "@", "%")  # at the beginning of a text MONAI takes them for code and references
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}


class StageSettings:
    """The settings of a stage that requests may carry.

    Args:
        stage: name of a config without its suffix.
        more: names that a model takes besides.

    Attributes:
        comments: what each setting means, as the config says.
    """

    def __init__(self, stage: str, more: Mapping[str, str] | None = None) -> None:
        found = settings_of(configs_dir() / f"{stage}.yaml")
        own = {one.name: one for one in found if one.name not in _OF_THE_SERVER and "#" not in one.name}
        self.defaults = {name: one.default for name, one in own.items()}
        self.comments = {**{name: one.comment for name, one in own.items()}, **(more or {})}
        self.more = frozenset(more or {})

    def of(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
        """Sort a request.

        Returns:
            Settings of the config, what the model takes besides, and names that mean nothing here.

        Raises:
            SettingError: a value of the wrong kind, or a name that is nearly one of a setting.
        """
        settings: dict[str, Any] = {}
        besides: dict[str, Any] = {}
        ignored: list[str] = []
        for name, value in request.items():
            if name in self.more:
                besides[name] = _first(value)
            elif name in self.defaults and name not in _OF_CLIENTS:
                settings[name] = _value(name, value, self.defaults[name])
            elif name in _OF_THE_SERVER:
                raise SettingError(f"{name} is set by the server; leave it out of the request.")
            elif name not in _OF_CLIENTS:
                self._check_spelling(name)
                ignored.append(name)
        return settings, besides, ignored

    def _check_spelling(self, name: str) -> None:
        if hint := nearest(name, self._names()):
            raise SettingError(f"There is no setting {name!r}{hint}.")

    def _names(self) -> Collection[str]:
        return [*self.defaults, *self.more]


def truth(name: str, value: Any) -> bool:
    """A truth value, as clients write it.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, bool):
        return value
    found = _TRUTH.get(str(value).strip().lower())
    if found is None:
        raise SettingError(f"{name} is {value!r}; it must be true or false.")
    return found


def _first(value: Any) -> Any:
    """The first of the choices that clients send back as they found them in ``/info/``."""
    return value[0] if isinstance(value, list) and value and all(isinstance(one, str) for one in value) else value


def _value(name: str, value: Any, default: Any) -> Any:
    if not isinstance(default, list):
        value = _first(value)
    _check_plain(name, value)
    if isinstance(default, bool):
        return truth(name, value)
    is_number = isinstance(default, int | float)
    if is_number and isinstance(value, str):
        try:
            value = float(value)
        except ValueError as error:
            raise SettingError(f"{name} is {value!r}; it must be a number.") from error
    if is_number and value is not None and (isinstance(value, list | bool) or not math.isfinite(value)):
        raise SettingError(f"{name} is {value!r}; it must be a number.")
    if isinstance(default, int) and isinstance(value, float):
        if value != int(value):
            raise SettingError(f"{name} is {value:g}; it must be a whole number.")
        return int(value)
    return value


def _check_plain(name: str, value: Any) -> None:
    """Only plain values reach a config: MONAI would run a text that begins with a dollar."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, list) and not any(isinstance(one, list | dict) for one in item):
            _check_plain(name, item)
        elif isinstance(item, str) and item.strip().startswith(_EVALUATED):
            raise SettingError(f"{name} is {item!r}; a text must not begin with {', '.join(_EVALUATED)}.")
        elif item is not None and not isinstance(item, bool | int | float | str):
            raise SettingError(f"{name} must be a number, a text, true, false, null, or a list of them.")
