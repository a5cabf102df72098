"""What is seldom used is imported when it is used, and is then the real thing."""

import importlib
import subprocess
import sys
from typing import Generic, TypeVar

import pytest

from medical_gans.cli.later_imports import imported_later

LIBRARY = """
def double(x): return 2 * x
class Kind: pass
class Other: pass
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    (tmp_path / "seldom").mkdir()
    (tmp_path / "seldom" / "__init__.py").write_text(LIBRARY)
    (tmp_path / "seldom" / "part.py").write_text("def triple(x): return 3 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield {"seldom": "seldom"}
    for name in ("seldom", "seldom.part"):
        sys.modules.pop(name, None)


def _is_loaded(name: str) -> bool:
    return type(sys.modules.get(name)) is type(sys)


def test_names_taken_from_a_stand_in_are_the_real_ones_when_used(library):
    with imported_later(library):
        from seldom import Kind, double
        from seldom.part import triple

        whole = importlib.import_module("seldom")
        assert not isinstance(3, Kind)
        assert not _is_loaded("seldom")
    assert "seldom" not in sys.modules
    assert double(4) == 8
    assert _is_loaded("seldom")
    assert triple(4) == 12
    assert whole.double(5) == 10
    real = importlib.import_module("seldom")
    assert isinstance(real.Kind(), Kind)
    assert not isinstance(real.Other(), Kind)


def test_a_generic_class_of_what_is_imported_later_imports_nothing(library):
    with imported_later(library):
        from seldom import Kind

        kind = TypeVar("kind")

        class Box(Generic[kind]):
            pass

        class Mine(Box[Kind]):
            pass

        assert not _is_loaded("seldom")
    assert issubclass(Mine, Box)


def test_what_is_needed_at_once_is_there_at_once(library):
    with imported_later(library):
        from seldom import Kind, double

        class Mine(Kind):
            pass

        assert double(3) == 6
        assert _is_loaded("seldom")
    assert issubclass(Mine, importlib.import_module("seldom").Kind)


def test_a_later_import_finds_the_real_module(library):
    with imported_later(library):
        import seldom.part  # noqa: F401
    module = importlib.import_module("seldom.part")
    assert _is_loaded("seldom.part")
    assert module.triple(2) == 6


def test_a_package_that_is_not_installed_is_missing_as_ever():
    with imported_later({"no_such_library": "no_such_library"}), pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_library")


def test_a_module_that_is_loaded_already_is_left_alone(library):
    before = importlib.import_module("seldom")
    with imported_later(library):
        assert importlib.import_module("seldom") is before
    assert sys.modules["seldom"] is before


MONAI = """
import sys
from medical_gans.cli.later_imports import imported_later
with imported_later():
    import monai.bundle
spared = ["torch.distributed.optim", "scipy.signal", "scipy.stats", "sklearn", "matplotlib", "sympy"]
spared += ["mlflow", "pandas"]
print("loaded:", [name for name in spared if name in sys.modules])
import numpy, scipy.signal
from monai.data.ultrasound_confidence_map import hilbert
wave = numpy.cos(numpy.arange(64.0))
assert numpy.array_equal(hilbert(wave), scipy.signal.hilbert(wave))
from ignite.handlers.checkpoint import HAVE_ZERO, ZeroRedundancyOptimizer
from torch.distributed.optim import ZeroRedundancyOptimizer as real
assert HAVE_ZERO and not isinstance(hilbert, ZeroRedundancyOptimizer)
assert isinstance(real.__new__(real), ZeroRedundancyOptimizer)
"""


def test_monai_works_without_what_it_seldom_uses():
    result = subprocess.run([sys.executable, "-c", MONAI], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == "loaded: []"
