"""The thin, strict door: ``medical-gans WORKFLOW STAGE --key value``."""

from medical_gans.cli.command import main

__all__ = ["main"]
