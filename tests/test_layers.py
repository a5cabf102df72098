"""The floors of the house: imports go down only, nothing imports a study, names say something."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "medical_gans"

FLOORS = (
    {"errors", "faces"},
    {"io", "networks", "losses", "metrics", "phantom"},
    {"transforms", "data", "report"},
    {"methods", "training", "weights"},
    {"inference", "evaluation", "checks"},
    {"studies"},
    {"cli", "shortcuts", "__main__"},
)
MAY_IMPORT = {name: set().union(*FLOORS[: floor + 1]) for floor, names in enumerate(FLOORS) for name in names}
LEAVES = {"turing_test", "radiotherapy", "placement", "registration", "dicom_node"}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ROOMS = [path for path in FILES if path != Path("__init__.py")]


def room(path: Path) -> str:
    """The module or folder of the package that a file belongs to."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported_rooms(source: str, path: Path) -> set[str]:
    """Rooms of the package that a file imports, anywhere in it, absolutely or relatively."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = ["medical_gans", *path.parts[:-1]]
            above = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        found |= {part[1] for part in parts if part[0] == "medical_gans" and len(part) > 1}
    return found - {"__version__"}


@pytest.mark.parametrize("path", ROOMS, ids=str)
def test_imports_go_down_only(path: Path):
    assert room(path) in MAY_IMPORT, f"{path}: say on which floor the new module stands"
    upwards = imported_rooms((PACKAGE / path).read_text(), path) - MAY_IMPORT[room(path)] - {room(path)}
    assert not upwards, f"{path} imports {sorted(upwards)}, which is not below it"


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_no_study_is_imported_by_another_room(leaf: str):
    for path in FILES:
        if path.parts[:2] != ("studies", leaf):
            assert f"medical_gans.studies.{leaf}" not in (PACKAGE / path).read_text(), path


@pytest.mark.parametrize("path", FILES, ids=str)
def test_names_say_something(path: Path):
    empty_words = {"util", "utils", "helper", "helpers", "misc", "common", "manager", "managers"}
    assert not empty_words & {word for part in path.with_suffix("").parts for word in part.lower().split("_")}


@pytest.mark.parametrize(
    "source",
    [
        "import medical_gans.cli",
        "from medical_gans import cli",
        "from medical_gans.cli import main",
        "from ..cli import main",
        "from .. import cli",
        "def late():\n    from medical_gans.cli import main",
    ],
)
def test_every_way_to_import_is_seen(source: str):
    assert imported_rooms(source, Path("io/volumes.py")) == {"cli"}


def test_a_room_may_import_itself_and_what_is_below():
    source = "from .volumes import Volume\nfrom medical_gans.errors import InputError\nimport numpy"
    assert imported_rooms(source, Path("io/cases.py")) == {"io", "errors"}
