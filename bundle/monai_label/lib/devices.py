"""Where models may run."""

from __future__ import annotations

from typing import Any

import torch


def devices() -> list[str]:
    """Names of the devices here, the best first."""
    return [*(f"cuda:{number}" for number in range(torch.cuda.device_count())), "cpu"]


def device(asked: Any) -> str:
    """The device that a request means: MONAI Label's batches ask for cuda wherever they run."""
    name = str((asked[0] if isinstance(asked, list) and asked else asked) or devices()[0])
    return "cpu" if name.startswith("cuda") and not torch.cuda.is_available() else name
