"""Which nodules are to be made: latent seeds and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medical_gans.errors import SettingError
from medical_gans.inference.nodules.sampling import NoduleSampler

BOTH = ("benign", "malignant")
MALIGNANCIES = (*BOTH, "both")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sample:
    """What a nodule follows from, together with weights and truncation.

    Attributes:
        latent_seed: draws the latent vector.
        label: class of the generator; None where it has no classes.
        malignancy: name of the class.
    """

    latent_seed: int
    label: int | None
    malignancy: str


def requested_samples(
    sampler: NoduleSampler,
    malignancy: str | None = "both",
    num_samples: int = 1,
    seed: int = 0,
    latent_seeds: Sequence[int] | None = None,
) -> list[Sample]:
    """The nodules that a run is asked for.

    The i-th sample follows from `seed` and i alone, so that a longer run begins with the samples of a shorter one.

    Args:
        sampler: that is to make them.
        malignancy: ``benign``, ``malignant``, or ``both`` in turn; None or ``both`` for a generator without classes.
        num_samples: how many; `latent_seeds` takes its place.
        seed: draws the latent seeds.
        latent_seeds: to be made (again), each in every class asked for.

    Raises:
        SettingError: fewer than 1 sample, or an unknown class.
    """
    if malignancy not in MALIGNANCIES and (malignancy is not None or sampler.classes):
        raise SettingError(f"malignancy is {malignancy!r}; choose {', '.join(MALIGNANCIES)}.")
    kinds: list[tuple[int | None, str]] = [(None, UNKNOWN)]
    if sampler.classes or malignancy in BOTH:
        wanted = BOTH if malignancy == "both" else (str(malignancy),)
        kinds = [(sampler.label_of(name), name) for name in wanted]
    if latent_seeds is not None:
        if not len(latent_seeds):
            raise SettingError("latent_seeds is empty. Give at least one, or null to draw num_samples.")
        return [Sample(int(one), *kind) for one in latent_seeds for kind in kinds]
    if num_samples < 1:
        raise SettingError(f"num_samples is {num_samples}; give 1 or more.")
    return [Sample(latent_seed(seed, index), *kinds[index % len(kinds)]) for index in range(num_samples)]


def latent_seed(seed: int, index: int) -> int:
    """Latent seed of the sample number `index`: 48 bits, which spreadsheets hold exactly.

    Raises:
        SettingError: the seed is negative.
    """
    if seed < 0:
        raise SettingError(f"seed is {seed}; give 0 or more.")
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> np.uint64(16))
