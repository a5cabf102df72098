"""The YAML configs: where they are, which stages there are, and the settings with the comments beside them.

Configs and weights lie beside the package in the repository, inside it when installed. An entry is a setting when it
is a plain value (or a list of plain values) and a comment says what it means; everything else is wiring. The comment
stands on the line of the entry, and may go on in lines whose ``#`` is right below, or it stands in the lines above.
``# --- words ---`` is the heading of the settings that follow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from medical_gans.errors import InputError, SettingError

PACKAGE = Path(__file__).resolve().parents[1]


def bundle_root() -> Path:
    """The folder that holds ``configs/`` and ``models/``: the root of the MONAI bundle.

    Raises:
        InputError: the package was installed or copied without its configs.
    """
    for folder in (PACKAGE, PACKAGE.parent):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise InputError(
        f"The folder configs of medical-gans is neither in {PACKAGE} nor in {PACKAGE.parent}: install the "
        "package again, or copy the whole repository."
    )


def configs_dir() -> Path:
    """The folder of ``<workflow>_<stage>.yaml``, the overlays, ``metadata.json`` and ``logging.conf``."""
    return bundle_root() / "configs"


def models_dir() -> Path:
    """The folder of the shipped weights, ``<workflow>_<site>.pt``."""
    return bundle_root() / "models"


WORKFLOWS = {
    "mr_to_ct": "a synthetic CT in HU from an MR",
    "lung_nodule": "lung nodules: generation, interpolation, Visual Turing Test, anomalies",
    "brain_lesion": "brain lesions: segmentation that adapts to another scanner",
}
_STAGE_ORDER = ("train", "evaluate", "inference")
_HEADING = re.compile(r"#\s*-{2,}\s*(.+?)\s*-{2,}")
_NUMBER = re.compile(r"[-+]?[\d.][\d_.]*([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Setting:
    """A value that a user may change; ``a#b`` is the name of an entry ``b`` of a section ``a``."""

    name: str
    default: Any
    comment: str
    heading: str = ""


def stages() -> dict[str, dict[str, Path]]:
    """Workflow -> stage -> config file, for every ``<workflow>_<stage>.yaml`` there is."""
    found: dict[str, dict[str, Path]] = {}
    for workflow in WORKFLOWS:
        paths = configs_dir().glob(f"{workflow}_*.yaml")
        files = {path.stem.removeprefix(f"{workflow}_"): path for path in paths}
        if files:
            found[workflow] = {stage: files[stage] for stage in sorted(files, key=_stage_rank)}
    return found


def overlays() -> list[Path]:
    """The configs that belong to no stage: they are given after a stage's own with ``--config_file``."""
    of_stages = {path for files in stages().values() for path in files.values()}
    return sorted(path for path in configs_dir().glob("*.yaml") if path not in of_stages)


def description(path: Path) -> str:
    """The comment at the top of a config."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(_comment_block(lines, start=0, step=1, column=0))


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.

    Raises:
        SettingError: not readable, not YAML, or one of the :func:`yaml_problems`.
    """
    return _parse(path, with_traps=False)[1]


def yaml_problems(path: Path) -> list[str]:
    """What YAML 1.1 takes for something else than it looks like, each with its line."""
    return list(_traps(_parse(path, resolve=False)[0]))


def settings_of(path: Path) -> list[Setting]:
    """The settings of a config in the order of the file, those of its sections included."""
    node, content = _parse(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for names, key, value, default in _entries(node, content):
        if comment := _comment_of(lines, key, value):
            found.append(Setting("#".join(names), default, comment, _heading_of(lines, key)))
    return found


def uncommented_numbers(path: Path) -> list[str]:
    """Names of the numbers that no comment explains, at the top level and in sections that build nothing."""
    node, content = _parse(path)
    explained = {setting.name for setting in settings_of(path)}
    unexplained = []
    for names, _, _, default in _entries(node, content):
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        in_a_component = len(names) > 1 and "_target_" in content[names[0]]
        if is_number and not in_a_component and "#".join(names) not in explained:
            unexplained.append("#".join(names))
    return unexplained


def _entries(
    node: yaml.MappingNode, content: dict[str, Any], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], yaml.Node, yaml.Node, Any]]:
    """(names, key, value, content) of each plain value or list of them, down through the sections."""
    for key, value in node.value:
        names = (*above, key.value)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from _entries(value, content[key.value], names)
        elif _is_flat(value):
            yield names, key, value, content[key.value]


def _traps(node: yaml.Node) -> Iterator[str]:
    line = f"line {node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line = f"line {key.start_mark.line + 1}"
            if key.value == "<<":
                yield f"{line}: MONAI cannot read the merge key '<<'; write the entries out"
            elif key.value in seen:
                yield f"{line}: '{key.value}' is given twice; keep one of them"
            seen.add(key.value)
            yield from _traps(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _traps(value)
    elif isinstance(node, yaml.ScalarNode) and node.style is None:
        if node.tag == "tag:yaml.org,2002:str" and _NUMBER.fullmatch(node.value) and _is_float(node.value):
            yield f"{line}: YAML reads {node.value} as text; write {_yaml_number(node.value)}"
        elif node.tag == "tag:yaml.org,2002:bool" and node.value.lower() not in ("true", "false"):
            yield f"{line}: YAML reads {node.value} as a truth value; write true or false, or use quotes"


def _parse(path: Path, resolve: bool = True, with_traps: bool = True) -> tuple[yaml.MappingNode, dict[str, Any]]:
    """Nodes and content; to resolve the content also rewrites the merge keys in the nodes."""
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        problem = None if with_traps or node is None else next(_traps(node), None)
        if problem is not None:
            raise SettingError(f"{path.name}, {problem}.")
        content = loader.construct_document(node) if resolve and node is not None else {}
    except OSError as error:
        raise SettingError(f"The config {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"The config {path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(node, yaml.MappingNode):
        raise SettingError(f"The config {path} must consist of entries 'name: value'.")
    return node, dict(content)


def _comment_of(lines: list[str], key: yaml.Node, value: yaml.Node) -> str:
    in_lines_below = isinstance(value, yaml.SequenceNode) and not value.flow_style
    mark = key.end_mark if in_lines_below else value.end_mark
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    beside = re.fullmatch(r":?\s*#\s*(.*?)\s*", rest)
    if beside:
        column = lines[mark.line].index("#", mark.column)
        below = _comment_block(lines, start=mark.line + 1, step=1, column=column)
        return " ".join([beside[1], *below])
    above = _comment_block(lines, start=key.start_mark.line - 1, step=-1, column=key.start_mark.column)
    is_description = len(above) == key.start_mark.line
    return "" if is_description else " ".join(above[::-1])


def _comment_block(lines: list[str], start: int, step: int, column: int) -> list[str]:
    """The unbroken lines from ``start`` on that are comments at a column, and no headings."""
    pattern = re.compile(rf" {{{column}}}#\s*(.*)")
    block = []
    number = start
    while 0 <= number < len(lines) and (match := pattern.fullmatch(lines[number])):
        if _HEADING.fullmatch(lines[number].strip()):
            break
        block.append(match[1].strip())
        number += step
    return block


def _heading_of(lines: list[str], key: yaml.Node) -> str:
    for line in reversed(lines[: key.start_mark.line]):
        if heading := _HEADING.fullmatch(line):
            return heading[1]
    return ""


def _is_flat(node: yaml.Node) -> bool:
    if isinstance(node, yaml.SequenceNode):
        return all(isinstance(item, yaml.ScalarNode) and not item.value.startswith("$") for item in node.value)
    return isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">")


def _stage_rank(stage: str) -> tuple[int, str]:
    return _STAGE_ORDER.index(stage) if stage in _STAGE_ORDER else len(_STAGE_ORDER), stage


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _yaml_number(text: str) -> str:
    """The spelling that YAML 1.1 reads as a number: a point, and a sign in the exponent."""
    mantissa, _, exponent = text.lower().partition("e")
    if not exponent:
        return repr(float(text))
    mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
    return f"{mantissa}e{exponent if exponent[0] in '+-' else '+' + exponent}"
