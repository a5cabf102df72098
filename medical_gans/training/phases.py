"""Both phases of f-AnoGAN as one run that can be continued: WGAN on normal patches, then the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from medical_gans.training.trainer import MethodTrainer


class PhasedTraining:
    """Runs trainers one after the other, then what remains to be done.

    A resumed phase that is finished loads its state and trains no further epoch.

    Args:
        phases: trainers, each with its own output folder, in order; a later one may read the networks of an earlier.
        finish: called at the end.
    """

    def __init__(self, phases: Sequence[MethodTrainer], finish: Callable[[], object]) -> None:
        self.phases, self.finish = list(phases), finish

    def run(self) -> None:
        """Train every phase, then finish.

        Raises:
            OutputError: an output folder holds another run and the trainer was not told to resume.
        """
        for phase in self.phases:
            phase.run()
        self.finish()
