"""The floors of the house: imports go down only, rooms stay small, names say something."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "medical_gans"

BRICKS = {
    "errors",
    "epoch_views",
    "io",
    "networks",
    "losses",
    "metrics",
    "transforms",
    "phantom",
    "slices",
    "pairs",
    "patches",
    "lesion_views",
    "sequence_slices",
    "schedules",
    "parallel",
    "placement",
}
SERVING_ALL = {"checkpoints", "health", "report", "training", "fingerprint", "baselines", "sampling", "cohort"}
METHODS = {"cyclegan", "gan", "adaptation", "anomaly", "synthesis", "validation", "evaluation"}
METHODS |= {"radiotherapy", "turing_test", "generation", "quality", "segmentation"}
DOORS = {"cli", "command_line", "config_files", "settings", "paths", "plain_errors", "__main__", "bundle_pipelines"}

MAY_IMPORT = (
    dict.fromkeys(BRICKS, BRICKS)
    | dict.fromkeys(SERVING_ALL, BRICKS)
    | {"sampling": BRICKS | {"checkpoints"}}
    | {"cohort": BRICKS | {"report"}}
    | {"cohort": BRICKS | {"report"}}
    | {"training": BRICKS | {"checkpoints", "health", "report"}}
    | dict.fromkeys(METHODS, BRICKS | SERVING_ALL)
    | dict.fromkeys(DOORS, BRICKS | SERVING_ALL | METHODS | DOORS)
)
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


@pytest.mark.parametrize("path", FILES, ids=str)
def test_rooms_stay_small(path: Path):
    lines = len((PACKAGE / path).read_text().splitlines())
    assert lines <= 320, f"{path} has {lines} lines; split it into a folder of the same name"


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
