"""What a release is made of agrees with itself."""

import json
import re
import tomllib
from pathlib import Path

import yaml

import medical_gans


def test_one_version_everywhere(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    metadata = json.loads((repository / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert citation["version"] == metadata["version"] == medical_gans.__version__


def test_the_citation_has_what_its_format_asks_for(repository: Path) -> None:
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"]
    assert all(set(author) & {"name", "family-names"} for author in citation["authors"])
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(reference)
        assert reference["url"] in (repository / "README.md").read_text(encoding="utf-8")


def test_what_is_said_of_python_agrees(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = map(int, re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups())  # type: ignore[union-attr]
    said = [f"Programming Language :: Python :: 3.{minor}" for minor in range(low, high)]
    assert [line for line in project["classifiers"] if "Python :: 3." in line] == said
    assert f"Python 3.{low} to 3.{high - 1}" in (repository / "README.md").read_text(encoding="utf-8")


def test_the_wheel_takes_every_file_that_the_package_reads(repository: Path) -> None:
    wheel = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    assert set(wheel["targets"]["wheel"]["only-include"]) == {"medical_gans", "configs", "models"}
    ignored = (repository / ".gitignore").read_text(encoding="utf-8").split()
    pages = [
        path for path in (repository / "medical_gans").rglob("*") if path.suffix in (".html", ".css", ".js", ".csv")
    ]
    assert {path.name for path in pages} >= {"page.html", "planes.js", "density.csv"}
    assert not [name for name in ignored if name in ("*.html", "*.js", "*.css", "*.csv")]
