"""Libraries that MONAI imports and a run seldom uses, imported when they are used.

``import monai`` loads all of MONAI and with it what any of its functions needs: half of the time from a command to its
first slice. While `imported_later` is active, the modules named here are stand-ins. What was taken from one of them is
the real thing as soon as it is called, looked into, or compared with; a later ``import`` finds the real module.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SELDOM_USED = {
    "torch.distributed.optim": "torch",  # ignite, for optimisers that are shared among processes
    "scipy.signal": "scipy",
    "sklearn": "sklearn",
    "matplotlib": "matplotlib",  # and by us, where pictures are drawn
    "pydicom": "pydicom",  # nibabel, for headers inside of NIfTI
    "scipy.optimize": "scipy",
    "scipy.spatial": "scipy",
    "itk": "itk",
    "tensorboard": "tensorboard",
    "torch.utils.tensorboard": "tensorboard",
    "mlflow": "mlflow",
    "pandas": "pandas",  # MONAI, for tables of timings
}
"""Modules, with all below them, and the package that must be there."""

_ASKED_BY_TYPING = {"__parameters__", "__typing_subst__"}  # of what stands in the brackets of a generic class


@contextmanager
def imported_later(modules: Mapping[str, str] = SELDOM_USED) -> Iterator[None]:
    """Inside, modules that were not imported yet become stand-ins.

    Args:
        modules: with all below them, and the package that must be installed; without it an import fails as ever.
    """
    there = {name for name, needed in modules.items() if name not in sys.modules and _is_installed(needed)}
    finder = _Finder(there)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.end()


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: set[str]) -> None:
        self.names, self.made, self.active = names, list[str](), True
        self.below = tuple(f"{name}." for name in names)

    def end(self) -> None:
        """Take all stand-ins away, so that imports find the real modules."""
        self.active = False
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in self.made:
            parent, _, last = name.rpartition(".")
            if isinstance(sys.modules.get(name), _StandIn):
                del sys.modules[name]
            if isinstance(getattr(sys.modules.get(parent), "__dict__", {}).get(last), _StandIn):
                delattr(sys.modules[parent], last)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        if name not in self.names and not name.startswith(self.below):
            return None
        return ModuleSpec(name, self, origin=f"<{name}, imported later>", is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _StandIn(spec.name)
        module.__file__ = spec.origin
        module._finder = self
        self.made.append(spec.name)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing yet."""


class _StandIn(ModuleType):
    _finder: _Finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"{self.__name__} is not imported yet and has no {name}")
        if self._finder.active:
            return _Later(self, name)
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        self._finder.end()  # somebody needs it at once: from here on everything is imported as ever
        return importlib.import_module(self.__name__)


class _Later:
    """What has that name in a module that is imported when it is needed."""

    def __init__(self, module: _StandIn, name: str) -> None:
        self.__dict__.update(_module=module, _name=name)

    def _real(self) -> Any:
        return getattr(self._module._real(), self._name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name in _ASKED_BY_TYPING:
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        loaded = sys.modules.get(self._module.__name__)
        return loaded is not None and not isinstance(loaded, _StandIn) and isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
