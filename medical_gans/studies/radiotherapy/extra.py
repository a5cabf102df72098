"""The packages of the extra `radiotherapy`, imported when a dose is computed, or an error that names the extra."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from medical_gans.errors import SettingError


def pyradplan() -> Any:
    """The module `pyRadPlan`: plans and dose.

    Raises:
        SettingError: it is not installed, or not usable.
    """
    return _imported("pyRadPlan")


def pymedphys_gamma() -> Callable[..., Any]:
    """`pymedphys.gamma`.

    Raises:
        SettingError: it is not installed, or not usable.
    """
    return _imported("pymedphys").gamma  # type: ignore[no-any-return]


def require_extra() -> None:
    """Refuse a run that could not finish.

    Raises:
        SettingError: a package of the extra is missing.
    """
    pyradplan()
    pymedphys_gamma()
    _imported("numba")


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SettingError(
            f"Dose needs the package {name}, which cannot be imported ({error}). "
            "Run pip install 'medical-gans[radiotherapy]'."
        ) from error
