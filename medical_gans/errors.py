"""Errors that are the user's to mend: one clear sentence, no traceback.

A message says what was found, what is needed, and what to do. The command prints
the message and exits with code 2; anything else that escapes is a bug of ours.
"""


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
