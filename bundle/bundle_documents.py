"""metadata.json and README.md of a bundle, from what the repository says of the workflow and its weights."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medical_gans.cli.config_files import Setting, description, settings_of


def metadata(
    shared: Mapping[str, Any], own: Mapping[str, Any], weights: Mapping[str, Any], cards: Iterable[Path]
) -> dict[str, Any]:
    """What ``configs/metadata.json`` of a bundle says.

    Args:
        shared: what the repository says of every workflow.
        own: what the bundle says of itself; goes before `shared`.
        weights: card of the weights: the sequences and classes of a segmenter go before `own`.
        cards: pages with measured figures.
    """
    made = {**shared, **own, "eval_metrics": {card.stem: found for card in cards if (found := figures_of(card))}}
    if weights["channels"]:
        tensors = json.loads(json.dumps(own["network_data_format"]))
        for tensor, names in ((tensors["inputs"]["image"], "channels"), (tensors["outputs"]["pred"], "classes")):
            tensor["channel_def"] = {str(number): name for number, name in enumerate(weights[names])}
            tensor["num_channels"] = len(weights[names])
        made["network_data_format"] = tensors
    return made


def figures_of(card: Path) -> dict[str, Any]:
    """The figures of a card: of each of its tables the row in bold, which is what ships, by column."""
    found: dict[str, Any] = {}
    heading: list[str] = []
    for line in card.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            heading = []
            continue
        cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        if not heading:
            heading = cells
        elif re.fullmatch(r"\*\*.+\*\*", cells[0]):
            figures = {name: _number(cell) for name, cell in zip(heading[1:], cells[1:], strict=True)}
            found[f"{heading[0]}: {_plain(cells[0])}"] = figures
    return found


def readme(
    template: str,
    own: Mapping[str, Any],
    stages: Mapping[str, Path],
    cards: Mapping[str, Path],
    **further: str,
) -> str:
    """The page of a bundle.

    Args:
        template: with a place for each part.
        own: what its metadata says of it alone.
        stages: YAML of each stage.
        cards: by the weights that they are of.
        further: parts that stand in the template as they are.
    """
    lines = [f"- `configs/{stage}.json`: {description(path)}" for stage, path in stages.items()]
    return template.format(
        title=own["name"],
        description=own["description"],
        stages="\n".join(lines),
        settings="\n".join(_settings_table(settings_of(stages["inference"]))),
        cards="\n".join(f"- `{file}`: [{card.stem}](models/{card.name})" for file, card in cards.items()),
        **further,
    )


def needed_packages(repository: Path) -> str:
    """What the package depends on, as pip takes it."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return " ".join(f"'{package}'" for package in project["dependencies"])


def _settings_table(settings: Iterable[Setting]) -> Iterable[str]:
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    for setting in settings:
        default = "" if str(setting.default).startswith("$") else f"`{json.dumps(setting.default)}`"
        yield f"| `{setting.name}` | {default} | {setting.comment.replace('|', '/')} |"


def _plain(text: str) -> str:
    return text.replace("**", "").strip()


def _number(text: str) -> Any:
    plain = _plain(text)
    try:
        return int(plain) if plain.isdigit() else float(plain)
    except ValueError:
        return plain
