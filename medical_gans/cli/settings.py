"""The check that a run has the settings its user meant.

MONAI takes any override: ``--max_epoch 3`` adds an entry that nothing reads, and the run trains for the
default number of epochs. So each of our configs begins its ``initialize`` with

    - _target_: medical_gans.cli.settings.check_settings

A setting is known when something reads it: another entry refers to it, or it is one of MONAI's own names. That holds
for plain values, for components and for lists of steps. This needs no list to be kept, and holds for overlays, for
copied and renamed configs, and however the run was started. What an overlay left without a reader, because it replaced
the reader, may stay as it was shipped.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pydoc
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medical_gans.cli.config_files import configs_dir, read_config
from medical_gans.cli.kinds import wrong_kinds
from medical_gans.errors import SettingError, replace_tracebacks_by_messages

if TYPE_CHECKING:
    from monai.bundle import ConfigParser

SEPARATOR = "::"
_REFERENCE = re.compile(rf"@\w*(?:{SEPARATOR}\w*)*")

# Read by MONAI itself: the entry points, the properties of a bundle, and what `--tracking mlflow` adds.
TRACKING_SETTINGS = frozenset({"tracking_uri", "experiment_name", "run_name", "save_execute_config"})
READ_BY_MONAI = (
    frozenset({"_meta_", "imports", "initialize", "run", "finalize", "is_not_rank0"})
    | {"bundle_root", "dataset_dir", "output_dir", "device", "network_def", "val_interval"}
    | TRACKING_SETTINGS
)

_ONLY_FOR_MONAI = ("_requires_", "_disabled_", "_desc_")  # of a component, and of no use to a card


def check_settings(config: str | None = None, served: Sequence[str] = ()) -> None:
    """Refuse a setting that nothing reads or of another kind, and a target or an argument that does not exist.

    To be called from the ``initialize`` list of a config.

    Args:
        config: file of ours that this config is, or is made from; what stands in it may be left without a reader.
        served: entries that programs other than this run build, such as MONAI Label.

    Raises:
        SettingError: names each unknown setting and the nearest known name, and what a setting must be.
    """
    replace_tracebacks_by_messages()
    parser = _parser_of_this_run()
    content = parser.get()
    shipped = _shipped(config)
    problems = []
    unused = [name for name in unused_settings(content) if name not in served]
    known = [name for name in setting_ids(content) if name not in unused]
    for name in unused:
        if not has_id(shipped, name):
            problems.append(f"unknown setting '{shown(name)}'{nearest(name, known)}")
        elif _entry(shipped, name) != _entry(content, name):
            problems.append(f"nothing reads the setting '{shown(name)}', for what read it was replaced; leave it out")
    problems += [f"'{shown(name)}' {problem}" for name, problem in unknown_targets(content, parser)]
    for name, arguments in unknown_arguments(content, parser):
        own = [f"{name.rpartition(SEPARATOR)[0]}{SEPARATOR}{argument}" for argument in arguments]
        problems.append(f"unknown setting '{shown(name)}'{nearest(name, own)}")
    problems += wrong_kinds(content, shipped)
    if problems:
        raise SettingError("; ".join(problems) + ".")


def require(condition: bool, message: str) -> None:
    """Refuse a value out of range, from the ``initialize`` list of a config::

        - '$settings.require(@batch_size >= 1, f"batch_size is {@batch_size}; give 1 or more.")'

    Raises:
        SettingError: the condition does not hold.
    """
    if not condition:
        raise SettingError(message)


def unused_settings(config: Mapping[str, Any]) -> list[str]:
    """Ids that nothing refers to: plain values, components and lists of steps."""
    read = set(_references(config))

    def is_read(name: str) -> bool:
        return any(
            name == other or other.startswith(name + SEPARATOR) or name.startswith(other + SEPARATOR) for other in read
        )

    def unread(section: Mapping[str, Any], at: str) -> Iterator[str]:
        for key, value in section.items():
            name = _join(at, key)
            if name in READ_BY_MONAI:
                continue
            if isinstance(value, Mapping) and value and not is_component(value):
                yield from unread(value, name)
            elif not is_read(name):
                yield name

    return list(unread(config, ""))


def unknown_references(config: Mapping[str, Any]) -> list[str]:
    """Ids that an entry refers to with ``@`` or ``%`` and that do not exist."""
    return sorted({name for name in _references(config, macros=True) if not has_id(config, name)})


def unknown_targets(config: Any, parser: ConfigParser, at: str = "") -> Iterator[tuple[str, str]]:
    """(id, what is wrong) of each ``_target_`` that leads to nothing."""
    from monai.bundle import ConfigComponent

    if is_component(config) and isinstance(config["_target_"], str):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a short name that MONAI has in several modules
            target = ConfigComponent(config, locator=parser.locator).resolve_module_name()
        if not target.startswith(("$", "@", "%")) and (problem := _missing(target, parser)):
            yield at, problem
    for key, value in _items(config):
        yield from unknown_targets(value, parser, _join(at, key))


def unknown_arguments(config: Any, parser: ConfigParser, at: str = "") -> Iterator[tuple[str, list[str]]]:
    """(id, names of the arguments there are) of each entry that its ``_target_`` has no argument for."""
    from monai.bundle import ConfigComponent

    if is_component(config) and isinstance(config["_target_"], str):
        target = ConfigComponent(config, locator=parser.locator).resolve_module_name()
        arguments = [] if target.startswith("$") else _argument_names(target)
        for key in config:
            if arguments and key not in arguments and key not in ConfigComponent.non_arg_keys:
                yield _join(at, key), arguments
    for key, value in _items(config):
        yield from unknown_arguments(value, parser, _join(at, key))


def setting_ids(config: Any, at: str = "") -> list[str]:
    """Ids of all entries of all sections, ``a::b`` for an entry ``b`` of ``a``; list items are left out."""
    ids = []
    if isinstance(config, Mapping):
        for key, value in config.items():
            ids += [_join(at, key), *setting_ids(value, _join(at, key))]
    return ids


def imported_names(config: Mapping[str, Any]) -> list[str]:
    """Names that the expressions of a config may use: what its ``imports`` bind."""
    lines = [str(line).removeprefix("$") for line in config.get("imports") or []]
    return [re.split(r"\s+", line.strip().rstrip(","))[-1].split(".")[0] for line in lines]


def has_id(config: Any, name: str) -> bool:
    """Whether ``a::b::0`` leads to an entry."""
    for key in name.split(SEPARATOR):
        entries = {str(entry): value for entry, value in _items(config)}
        if key not in entries:
            return False
        config = entries[key]
    return True


def nearest(name: str, known: Iterable[str]) -> str:
    """``" (did you mean 'x'?)"``, or nothing when no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{shown(matches[0])}'?)" if matches else ""


def shown(name: str) -> str:
    """An id as it is typed: ``a#b``."""
    return name.replace(SEPARATOR, "#")


def is_component(value: Any) -> bool:
    """Whether MONAI builds something from this entry."""
    return isinstance(value, Mapping) and "_target_" in value


def _references(config: Any, at: str = "", macros: bool = False) -> Iterator[str]:
    """Ids that the strings of a config refer to: ``@id``, in expressions anywhere; on request ``%id`` too."""
    for key, value in _items(config):
        yield from _references(value, _join(at, key), macros)
    if not isinstance(config, str):
        return
    text = config.replace("#", SEPARATOR)
    is_macro = macros and text.startswith("%")
    found = _REFERENCE.findall(text) if text.startswith("$") or _REFERENCE.fullmatch(text) else []
    for reference in [text] if is_macro else found:
        name = reference[1:].lstrip(":")
        levels_up = (len(reference) - 1 - len(name)) // len(SEPARATOR)
        yield SEPARATOR.join([*at.split(SEPARATOR)[:-levels_up], name]) if levels_up else name


def configured(name: str) -> dict[str, Any]:
    """A component as it stands in the config of this run, references resolved, but not built; for cards::

        network_def: "$settings.configured('network_def')"

    Raises:
        SettingError: there is no such component.
    """
    from monai.bundle import ConfigComponent

    parser = _parser_of_this_run()
    at = name.replace("#", SEPARATOR)

    def plain(value: Any, at: str) -> Any:
        if isinstance(value, Mapping):
            resolved = {k: plain(entry, _join(at, k)) for k, entry in value.items() if k not in _ONLY_FOR_MONAI}
            if is_component(value) and isinstance(value["_target_"], str):
                resolved["_target_"] = ConfigComponent(value, locator=parser.locator).resolve_module_name()
            return resolved
        if isinstance(value, list):
            return [plain(entry, _join(at, number)) for number, entry in enumerate(value)]
        return parser.get_parsed_content(at) if isinstance(value, str) and value.startswith(("$", "@")) else value

    found = _entry(parser.get(), at) if has_id(parser.get(), at) else None
    while isinstance(found, str) and found.startswith("@"):
        at = found[1:].replace("#", SEPARATOR)
        found = _entry(parser.get(), at)
    if not is_component(found):
        raise SettingError(f"{name} must be an entry with `_target_`; found {found!r}.")
    resolved: dict[str, Any] = plain(found, at)
    return resolved


def _shipped(config: str | None) -> dict[str, Any]:
    """Content of a config of ours; nothing where it was not installed."""
    if config is None:
        return {}
    path = (configs_dir() / config).with_suffix(".yaml")
    return read_config(path) if path.is_file() else {}


def _entry(config: Any, name: str) -> Any:
    for key in name.split(SEPARATOR):
        config = config[int(key) if isinstance(config, list) else key]
    return config


def _missing(target: str, parser: ConfigParser) -> str:
    """What is wrong with a full name; nothing where it leads somewhere."""
    try:
        if pydoc.locate(target) is not None:
            return ""
    except pydoc.ErrorDuringImport as error:
        return f"has the _target_ {target}, which cannot be imported: {error.value}"
    home, _, last = target.rpartition(".")
    if not home:
        parser.locator.get_component_module_name(target)
        known = list(parser.locator._components_table or {})
        return f"has the _target_ {target}, and MONAI has no such name{nearest(target, known)}"
    parts = home.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        first = [*parts, last][end]
        names = [one for one in dir(module) if not one.startswith("_")]
        return f"has the _target_ {target}, but {module.__name__} has no {first}{nearest(first, names)}"
    return f"has the _target_ {target}, but there is no package {parts[0]}"


def _argument_names(target: str) -> list[str]:
    """Names of the arguments of a class or function; empty when they cannot be known."""
    try:
        parameters = inspect.signature(pydoc.locate(target)).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError, pydoc.ErrorDuringImport):  # MONAI will say it better when it builds
        return []
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return [] if takes_any else [parameter.name for parameter in parameters]


def _parser_of_this_run() -> ConfigParser:
    """The parser that is evaluating us. MONAI hands it to no component, so it is found among our callers."""
    from monai.bundle import ConfigParser

    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            return caller
        frame = frame.f_back
    raise RuntimeError("check_settings belongs in the `initialize` list of a MONAI config.")


def _items(config: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(config, Mapping):
        return config.items()
    return enumerate(config) if isinstance(config, list) else ()


def _join(at: str, key: Any) -> str:
    return f"{at}{SEPARATOR}{key}" if at else str(key)
