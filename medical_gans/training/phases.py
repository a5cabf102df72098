"""Both phases of f-AnoGAN as one run that can be continued: WGAN on normal patches, then the encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from medical_gans.training.checkpoints import load_checkpoint
from medical_gans.training.trainer import StepTrainer

logger = logging.getLogger(__name__)


class PhasedTraining:
    """Runs trainers one after the other, then what remains to be done.

    Args:
        phases: trainers, each with its own output folder, in order; a later one may read the networks of an earlier.
        finish: called at the end.
    """

    def __init__(self, phases: Sequence[StepTrainer], finish: Callable[[], object]) -> None:
        self.phases, self.finish = list(phases), finish

    def run(self) -> None:
        """Train every phase that is not finished yet, then finish.

        Raises:
            OutputError: an output folder holds another run and the trainer was not told to resume.
        """
        for phase in self.phases:
            if phase.resume and phase.checkpoint_path.is_file() and self._is_finished(phase):
                logger.info("%s is finished.", phase.output_dir)
            else:
                phase.run()
        self.finish()

    @staticmethod
    def _is_finished(phase: StepTrainer) -> bool:
        """Load a phase's state; whether it has had all its epochs."""
        counters = load_checkpoint(phase.checkpoint_path, {"step": phase.step, "alarms": phase.alarms})
        return int(counters["epoch"]) >= int(phase.state.max_epochs or 0)
