"""``medical-gans WORKFLOW STAGE --key value``: a thin, strict door to MONAI's bundle runner.

Exit codes: 0 done, 2 something the user can mend (one sentence on stderr), 130 interrupted, 1 a bug of ours
(with its traceback).
"""

from __future__ import annotations

import ast
import difflib
import gc
import importlib.util
import io
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medical_gans import __version__
from medical_gans.cli import config_files
from medical_gans.cli.command_line import arguments, check_value, command_help, first_steps, general_help, stage_help
from medical_gans.cli.config_files import configs_dir
from medical_gans.cli.later_imports import imported_later
from medical_gans.cli.settings import SEPARATOR, TRACKING_SETTINGS, has_id, imported_names, nearest, setting_ids, shown
from medical_gans.errors import InputError, SettingError, show_plainly, user_message

PHANTOM_SETTINGS = [
    config_files.Setting("output_dir", None, "new or empty folder for the data set"),
    config_files.Setting("anatomy", "head", "head or limb"),
    config_files.Setting("patients", 8, "number of patients; in the unpaired layout so many MR and so many CT"),
    config_files.Setting(
        "layout", "synthrad", "synthrad (MR, CT), unpaired, dicom (MR), haemorrhage_source or _target"
    ),
    config_files.Setting("sequence", "T1w", "of the MR: T1w, T2w, FLAIR or PD"),
    config_files.Setting("spacing", None, "mm, one number or three; null: 1.5, for limbs 3 between slices"),
    config_files.Setting("seed", 0, "equal seeds give equal patients"),
]


CHECK_ABOUT = "Says what is installed, what is missing and the command that brings it, and tries each workflow."
CHECK_SETTINGS = [config_files.Setting("smoke", True, "try each workflow on a small phantom; false only looks")]

_FIRST_LOOK = ("report.html", "study.html", "losses.png")
_READ = frozenset({"patch", "generated", "lookup_pairs"})  # weights are not always read
_WRITTEN = frozenset({"output_dir", "cache_dir", "painted_dir", "tracking_uri"})


@dataclass
class Run:
    """One run of a stage: its config, the overlays after it, and the values that replace theirs."""

    stage: str
    config: Path
    overlays: list[Path] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)
    tracking: str | None = None
    quiet: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    started = False
    for stream in (sys.stdout, sys.stderr):  # names of files may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        action = _action(words)
        started = True
        action()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # who read our output has gone, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        show_plainly("medical-gans: interrupted.")
        return 130
    except Exception as error:
        message = user_message(error)
        if message is not None:
            show_plainly(f"medical-gans: error: {message}", any_process=started)
            return 2
        traceback.print_exc()
        show_plainly("medical-gans: this is a bug of medical-gans; please report it with the lines above.")
        return 1


def _action(words: list[str]) -> Callable[[], None]:
    """What the words ask for, checked and ready to be called."""
    if words == ["--version"]:
        return partial(print, f"medical-gans {__version__}")
    wants_help = any(word in ("-h", "--help") for word in words)
    names = [word for word in words[:2] if not word.startswith("-")]
    stages = config_files.stages()
    if not names:
        return partial(print, general_help(stages) if words else first_steps())
    workflow = names[0]
    if workflow == "check":
        if wants_help:
            return partial(print, command_help("medical-gans check", CHECK_ABOUT, CHECK_SETTINGS))
        from medical_gans.cli.installation import check_installation

        return partial(check_installation, **_values("check", CHECK_SETTINGS, words[1:]))
    if workflow == "phantom":
        about = "Writes patients with known truth."
        if wants_help:
            return partial(print, command_help("medical-gans phantom", about, PHANTOM_SETTINGS))
        return partial(_write_phantom, _phantom_settings(words[1:]))
    if workflow not in stages:
        known = [*stages, "phantom", "check"]
        near = nearest(workflow, known)
        raise SettingError(f"unknown workflow '{workflow}'{near}; there are {', '.join(known)}.")
    files = stages[workflow]
    if len(names) == 1:
        if wants_help:
            return partial(print, general_help({workflow: files}))
        raise SettingError(f"give a stage of {workflow}: {', '.join(files)}.")
    stage = names[1]
    if stage not in files:
        near = nearest(stage, files)
        raise SettingError(f"{workflow} has no stage '{stage}'{near}; there are {', '.join(files)}.")
    if wants_help:
        return partial(print, stage_help(workflow, stage, files[stage]))
    return partial(_run, plan_run(stage, files[stage], words[2:]))


def plan_run(stage: str, config: Path, words: Sequence[str]) -> Run:
    """Check a command line against the config of the stage and its overlays.

    Raises:
        SettingError: unknown setting, value of the wrong kind, overlay that does not exist.
    """
    run = Run(stage, config)
    given = arguments(words)
    for name, text in given:
        if name == "config_file":
            run.overlays += [_overlay(part) for part in _listed(_required_text(name, text))]
        elif name == "tracking":
            run.tracking = _tracking(_required_text(name, text))
        elif name == "quiet":
            run.quiet = check_value(name, text, False)
    contents = [_nested(config_files.read_config(path)) for path in (config, *run.overlays)]
    known = [name for content in contents for name in setting_ids(content)]
    usable = {*known, *(name for content in contents for name in imported_names(content))}
    for name, text in given:
        if name in ("config_file", "tracking", "quiet"):
            continue
        if run.tracking and name in TRACKING_SETTINGS:
            run.overrides[name] = check_value(name, text, None, usable)
            continue
        holders = [content for content in contents if has_id(content, name)]
        if not holders:
            raise SettingError(f"{config.stem} has no setting '{shown(name)}'{nearest(name, known)}.")
        run.overrides[name] = check_value(name, text, _entry(holders[-1], name), usable)
    check_places(run.overrides)
    folder = run.overrides.get("output_dir", "$")
    if run.tracking and not folder.startswith("$"):
        run.overrides["output_dir"] = f"${folder!r}"  # MONAI's tracking appends to it as to an expression
    return run


def check_places(overrides: Mapping[str, Any]) -> None:
    """Refuse a mistyped path at once, before what takes seconds is imported.

    Raises:
        InputError: a file or folder to read from does not exist.
    """
    for name, value in overrides.items():
        to_read = name.endswith(("_dir", "_file", "_path")) or name in _READ
        if not to_read or name in _WRITTEN or not isinstance(value, str) or value == "sample":
            continue
        if value.startswith(("$", "@", "%")):
            value = _text_of(value)
        if not value or os.path.lexists(os.path.expanduser(value)):
            continue
        place = Path(os.path.expanduser(value))
        near: list[str] = []
        if place.parent.is_dir():
            near = difflib.get_close_matches(place.name, [entry.name for entry in place.parent.iterdir()], n=1)
        hint = f" (did you mean {place.parent / near[0]}?)" if near else ""
        raise InputError(f"{place} does not exist{hint}. Check the path.")


def _text_of(expression: str) -> str:
    """The text that `command_line.as_text` wrote as an expression; nothing for another expression."""
    try:
        value = ast.literal_eval(expression[1:])
    except (ValueError, SyntaxError):
        return ""
    return value if isinstance(value, str) else ""


def _run(run: Run) -> None:
    begin = time.time()
    if run.quiet:
        os.environ["TQDM_DISABLE"] = "1"  # before tqdm is imported
    with _without_collection(), imported_later():
        from monai.bundle import ConfigWorkflow

    logging.getLogger("monai.bundle.workflows").setLevel(logging.WARNING)  # it announces the logging config
    folder = run.config.parent
    workflow = ConfigWorkflow(
        config_file=[str(path) for path in (run.config, *run.overlays)],
        meta_file=str(folder / "metadata.json"),
        logging_file=str(folder / "logging.conf"),
        workflow_type="train" if run.stage == "train" else "infer",
        tracking=run.tracking,
        **run.overrides,
    )
    if run.quiet:
        logging.getLogger().setLevel(logging.WARNING)
    with _without_collection():
        workflow.initialize()
    workflow.run()
    workflow.finalize()
    config: Any = workflow.parser.config
    if os.environ.get("RANK", "0") == "0" and "output_dir" in config:
        say_where(workflow.parser.get_parsed_content("output_dir"), begin)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python from looking for garbage, of which imports make none: a sixth of their time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def say_where(folder: str | Path, begin: float) -> None:
    """The last line of a run: how long it took, how its cases went, and where to look, as an address to click.

    Args:
        folder: of its results.
        begin: of the run, in s since the epoch.
    """
    place = Path(folder)
    if not place.exists():
        return
    pages = [place / name for name in _FIRST_LOOK if (place / name).is_file()]
    look = next((page for page in pages if page.stat().st_mtime >= begin - 1), place)
    minutes, seconds = divmod(round(time.time() - begin), 60)
    took = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    # not on stdout, which is for results that another program may read
    print(f"Done in {took}{_outcomes(place)}: {look.resolve().as_uri()}", file=sys.stderr, flush=True)


def _outcomes(folder: Path) -> str:
    """How many cases the page of a run shows, and how many of them have warnings or failed."""
    states = [_status(record) for record in (folder / "report").glob("*/case.json")]
    if not states:
        return ""
    counts = {"warning": "with warnings", "failed": "failed"}
    several = [f"{states.count(state)} {words}" for state, words in counts.items() if state in states]
    return ", " + ", ".join([f"{len(states)} case{'s' * (len(states) > 1)}", *several])


def _status(record: Path) -> str:
    try:
        return str(json.loads(record.read_text(encoding="utf-8")).get("status"))
    except (OSError, ValueError, AttributeError):
        return ""


def _values(command: str, settings: Sequence[config_files.Setting], words: Sequence[str]) -> dict[str, Any]:
    """Settings of a command that has no config."""
    values = {setting.name: setting.default for setting in settings}
    for name, text in arguments(words):
        if name not in values:
            raise SettingError(f"unknown setting '{name}' of {command}{nearest(name, values)}.")
        values[name] = check_value(name, text, values[name])
    return values


def _phantom_settings(words: Sequence[str]) -> dict[str, Any]:
    values = _values("phantom", PHANTOM_SETTINGS, words)
    if values["output_dir"] is None:
        raise SettingError("phantom needs a folder to write to: --output_dir FOLDER.")
    return values


def _write_phantom(values: dict[str, Any]) -> None:
    from medical_gans.phantom import write_dataset, write_lesion_dataset

    folder, layout = Path(values["output_dir"]), values["layout"]
    if layout in ("haemorrhage_source", "haemorrhage_target"):
        # heads by two scanners with several sequences each: what brain_lesion adapts between
        spacing = {} if values["spacing"] is None else {"spacing": values["spacing"]}
        domain = layout.removeprefix("haemorrhage_")
        write_lesion_dataset(folder, values["patients"], values["seed"], domain=domain, **spacing)
    else:
        write_dataset(folder, **{name: value for name, value in values.items() if name != "output_dir"})
    print(f"Phantom data set written to {folder}")


def _listed(text: str) -> list[str]:
    """Names between commas, or a list in brackets as `monai.bundle run` takes it."""
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [part.strip(" '\"") for part in inside.split(",")]


def _overlay(name: str) -> Path:
    """A config given by its path, or by its bare name among ours."""
    for path in (Path(name), configs_dir() / name, configs_dir() / f"{name}.yaml"):
        if path.is_file():
            return path
    ours = ", ".join(path.name for path in config_files.overlays())
    raise SettingError(f"there is no config {name}; give a path, or one of ours: {ours}.")


def _tracking(name: str) -> str:
    if name == "mlflow" and importlib.util.find_spec("mlflow") is None:
        raise SettingError("--tracking mlflow needs mlflow: pip install 'medical-gans[tracking]'.")
    return name


def _required_text(name: str, text: str | None) -> str:
    if text is None:
        raise SettingError(f"--{name} needs a value.")
    return text


def _nested(content: dict[str, Any]) -> dict[str, Any]:
    """Write ``a#b: value`` of an overlay as ``a: {b: value}``, so that its ids can be looked up."""
    nested: dict[str, Any] = {}
    for key, value in content.items():
        *sections, last = key.removeprefix("+").replace("#", SEPARATOR).split(SEPARATOR)
        section = nested
        for name in sections:
            section = section.setdefault(name, {}) if isinstance(section, dict) else {}
        if isinstance(section, dict):
            section[last] = value
    return nested


def _entry(content: Any, name: str) -> Any:
    for key in name.split(SEPARATOR):
        content = content[int(key) if isinstance(content, list) else key]
    return content
