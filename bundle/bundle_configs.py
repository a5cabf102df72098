"""From the YAML of a stage to the JSON of a bundle that works wherever it lies.

Three things change. The code is found: ``bundle_root`` is the folder of the config that is being run, and what is
imported from the package, or built from it, is looked up there first. Weights are those of the bundle. What a stage
checks before it runs is checked by ``run``, so that ``monai.bundle.load`` and the exports need no data set.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

PACKAGE = "medical_gans"

BUNDLE_ROOT = (
    "$str(next((folder.absolute().parent for frame in inspect.stack(0) for folder in ("
    "[frame.frame.f_locals['self'].config_root_path] "
    "if isinstance(frame.frame.f_locals.get('self'), monai.bundle.ConfigWorkflow) else "
    "[Path(monai.utils.ensure_tuple(frame.frame.f_locals['config_file_'])[0]).parent] "
    "if 'config_file_' in frame.frame.f_locals else [])), Path()))"
)
"""The parent of the folder of the config. MONAI tells it to no entry, so it is looked for among the callers: a
`ConfigWorkflow`, or a function such as ``verify_net_in_out`` with the name of the file in ``config_file_``."""

PACKAGE_ENTRIES = {
    "bundle_root": BUNDLE_ROOT,
    "package": "$sys.path.insert(0, @bundle_root) or module_named",
}
IMPORTS = [
    "$from importlib import import_module as module_named",  # MONAI parses whatever has 'import' in it, '@' or not
    "$import inspect",
    "$import sys",
    "$import monai.bundle",
]


def stage_config(
    path: Path, settings: Mapping[str, Any], renamed: Mapping[str, str], targets: Mapping[str, str]
) -> dict[str, Any]:
    """The config of a stage, for a bundle.

    Args:
        path: YAML of the stage.
        settings: values that take the place of the stage's own, where it has them.
        renamed: new names of entries, where it has them.
        targets: what is built in place of something else.
    """
    text = path.read_text(encoding="utf-8")
    for target, other in targets.items():
        text = re.sub(rf"_target_: {re.escape(target)}$", f"_target_: {other}", text, flags=re.MULTILINE)
    source = _renamed(yaml.safe_load(text), renamed)
    imports = source.pop("imports")
    modules = dict(_package_modules(imports))
    if taken := sorted({*modules, "package"} & source.keys()):
        raise ValueError(f"{path.name} imports {taken[0]}, which is also the name of an entry; rename one of them.")
    own_imports = [line for line in imports if PACKAGE not in line]
    run = [*source.pop("initialize", []), *source.pop("run")]
    source |= {name: value for name, value in settings.items() if name in source}
    body = _from_package({name: value for name, value in source.items() if name != "bundle_root"}, modules)
    run = _from_package(run, modules)
    used = {name for name in modules if any(f"@{name}." in text for text in _texts([body, run]))}
    aliases = {name: f"$@package('{modules[name]}')" for name in sorted(used)}
    return {"imports": [*own_imports, *IMPORTS], **PACKAGE_ENTRIES, **aliases, **body, "run": run}


def serving(config: dict[str, Any], entries: Mapping[str, Any]) -> dict[str, Any]:
    """A config of a stage with entries that other programs build: MONAI Label, MONAI Deploy."""
    run = config.pop("run")
    for step in run:
        if entries and isinstance(step, dict) and str(step.get("_target_", "")).endswith("check_settings"):
            step["served"] = list(entries)
    return {**config, **with_package(entries), "run": run}


def with_package(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries whose components are to be built from the package of the bundle."""
    return _from_package(dict(entries), {})


def _package_modules(imports: list[str]) -> Iterator[tuple[str, str]]:
    """(name in the config, module) of each import from the package."""
    for line in imports:
        statement = ast.parse(line.removeprefix("$")).body[0]
        if isinstance(statement, ast.Import) and statement.names[0].name.startswith(f"{PACKAGE}."):
            yield str(statement.names[0].asname), statement.names[0].name
        elif PACKAGE in line:
            raise ValueError(f"'{line}' must read '$import {PACKAGE}.x as x'.")


def _from_package(value: Any, modules: Mapping[str, str]) -> Any:
    """Components of the package wait for ``package``; ``module.name`` in an expression becomes ``@module.name``."""
    if isinstance(value, Mapping):
        made = {key: _from_package(entry, modules) for key, entry in value.items()}
        if str(made.get("_target_", "")).startswith(f"{PACKAGE}."):
            made = {"_target_": made.pop("_target_"), "_requires_": "@package", **made}
        return made
    if isinstance(value, list):
        return [_from_package(entry, modules) for entry in value]
    if isinstance(value, str) and value.startswith("$") and modules:
        return re.sub(rf"(?<![\w.@'\"])({'|'.join(map(re.escape, modules))})\.", r"@\1.", value)
    return value


def _renamed(config: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Top-level entries under new names, in references as well."""
    present = {old: new for old, new in names.items() if old in config}

    def follow(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: follow(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [follow(entry) for entry in value]
        if isinstance(value, str):
            for old, new in present.items():
                value = re.sub(rf"@{old}\b", f"@{new}", value)
        return value

    return {present.get(key, key): follow(value) for key, value in config.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
    elif isinstance(value, str):
        yield value
