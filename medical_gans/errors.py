"""Errors that are the user's to mend, and the way from any exception to the one sentence that its reader can act on.

A message says what was found, what is needed, and what to do. The command prints the message and exits with code 2;
anything else that escapes is a bug of ours. MONAI wraps what a component or an expression raises in a chain of
``RuntimeError``, and a data loader's worker process hands over the text of a traceback: the sentence is looked for in
both.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType


class UserError(Exception):
    """Base of all errors that a user can mend."""


class InputError(UserError, ValueError):
    """A file, folder or volume that cannot be used as it is."""


class SettingError(UserError, ValueError):
    """A setting that is unknown, out of range, or contradicts another."""


class OutputError(UserError, OSError):
    """Results could not be written: disk full, folder not writable."""


class TrainingAlarm(UserError, RuntimeError):
    """Training went wrong (NaN, collapse, identity, discriminator that has won) and was stopped."""


_NOT_BUILT = re.compile(r"Failed to instantiate component '([\w.]+)'")
_IN_A_WORKER_TRACEBACK = re.compile(r"^medical_gans\.errors\.\w+: (.+)$", re.MULTILINE)


def user_message(error: BaseException) -> str | None:
    """The sentence for the user, or ``None`` when the exception is a bug of ours."""
    for link in _causes(error):
        traceback_text = _IN_A_WORKER_TRACEBACK.findall(str(link))
        if traceback_text:
            return str(traceback_text[0])
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {link.filename}" if link.filename else ""
            return f"The disk is full{where}: free some space or choose another output_dir, then run again."
    return _refused_arguments(error)


def _refused_arguments(error: BaseException) -> str | None:
    """What a component of MONAI or torch, or a network, says of the arguments that a config gives it."""
    for link in _causes(error):
        found = _NOT_BUILT.match(str(link)) if isinstance(link, RuntimeError) else None
        cause = link.__cause__
        if found and isinstance(cause, TypeError | ValueError | AssertionError | KeyError | IndexError):
            target = str(found.group(1))
            if not target.startswith("medical_gans.") or target.startswith("medical_gans.networks."):
                said = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
                return f"{target} does not take these arguments: {said.rstrip('.')}. Correct its entry in the config."
    return None


def show_plainly(message: str, any_process: bool = False) -> None:
    """Print a message on stderr; under ``torchrun`` only the first process speaks, unless any may."""
    rank = os.environ.get("RANK", "0")
    if rank == "0":
        print(message, file=sys.stderr)
    elif any_process:
        print(f"[process {rank}] {message}", file=sys.stderr)


def replace_tracebacks_by_messages() -> None:
    """Let a run that was not started by our command end with the sentence instead of a traceback.

    Serves ``python -m monai.bundle run``; a notebook's or debugger's own hook is left alone.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_message_or_traceback


def _print_message_or_traceback(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    message = user_message(error)
    if message is None:
        sys.__excepthook__(kind, error, traceback)
    else:
        show_plainly(f"medical-gans: error: {message}", any_process=True)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, then what caused it, and so on."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
