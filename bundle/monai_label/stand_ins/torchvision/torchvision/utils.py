"""What MONAI Label imports for pictures of its own DeepEdit and 2D models."""

from typing import Any, NoReturn


def make_grid(*_: Any, **__: Any) -> NoReturn:
    """Not there."""
    raise NotImplementedError("This is a stand-in. Install the torchvision that fits your torch.")


save_image = make_grid
