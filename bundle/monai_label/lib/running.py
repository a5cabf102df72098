"""A stage of medical_gans in this process, through the classes that its config names."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from medical_gans.cli.config_files import configs_dir

_ONE_AT_A_TIME = threading.Lock()  # a run sets the seeds and switches of torch, which are those of the process


def run_stage(name: str, settings: Mapping[str, Any]) -> None:
    """Run ``configs/<name>.yaml`` as ``python -m monai.bundle run`` does, with `settings` in place of its own.

    Raises:
        RuntimeError: by MONAI, around what went wrong.
        UserError: settings or input cannot be used.
    """
    from monai.bundle import ConfigWorkflow

    with _ONE_AT_A_TIME:
        workflow = ConfigWorkflow(
            config_file=str(configs_dir() / f"{name}.yaml"),
            meta_file=str(configs_dir() / "metadata.json"),
            logging_file=False,  # the server has its own
            workflow_type="train" if name.endswith("_train") else "infer",
            **settings,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
