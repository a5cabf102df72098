"""What a shipped config builds, for tests of its parts."""

import functools
from typing import Any

from conftest import REPOSITORY


def component(stage: str, name: str, **settings: Any) -> Any:
    """A component of ``configs/<stage>.yaml``, with other settings than the shipped ones."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(ConfigParser.load_config_file(str(REPOSITORY / "configs" / f"{stage}.yaml")))
    parser.locator = _names_of_monai()
    for setting, value in settings.items():
        parser[setting] = value
    return parser.get_parsed_content(name)


@functools.cache
def _names_of_monai() -> Any:
    """Found once: to look through all modules of MONAI takes a second."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()
