"""Which of the patients were used for adaptation, and which only for testing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medical_gans.evaluation.lesion_methods import Member
from medical_gans.io.sequence_cases import SequenceCase
from medical_gans.report.manifest import sha256

TESTING_ONLY, NOT_KNOWN = "only for testing", "not known"


def image_hashes(cases: Sequence[SequenceCase]) -> dict[str, str]:
    """Name of each case -> SHA-256 of its first sequence: other patients of the same name are not taken for it."""
    return {case.name: sha256(next(path for path in case.channels if path is not None)) for case in cases}


def patient_roles(
    cases: Mapping[str, str], members: Mapping[str, Sequence[Member]], exclude: Sequence[str] = ()
) -> dict[str, str]:
    """What each case was used for: as the cards of the weights say in ``adaptation_patients``, and `exclude`.

    A case is known again by its images, whatever it is called now; with cards that hold names alone, by its name.

    Args:
        cases: the judged ones, as `image_hashes` gives them.
        members: of each method.
        exclude: names of cases that are not judged.

    Returns:
        Case -> ``unlabelled by METHOD, ...``, `TESTING_ONLY`, or `NOT_KNOWN` where nobody said anything.
    """
    used: dict[str, set[str]] = {}
    for name, seeds in members.items():
        for member in seeds:
            patients = getattr(member.card, "adaptation_patients", None)
            if patients:
                used.setdefault(name, set()).update(patients.values() if isinstance(patients, Mapping) else patients)
    otherwise = TESTING_ONLY if used or exclude else NOT_KNOWN
    roles = {}
    for case, image in cases.items():
        by = [name for name, patients in used.items() if not patients.isdisjoint({case, image})]
        roles[case] = f"unlabelled by {', '.join(by)}" if by else otherwise
    return roles


def role_notes(roles: Mapping[str, str], exclude: Sequence[str] = ()) -> list[str]:
    """What a reader of the table has to know about its patients, as sentences."""
    said = []
    if exclude:
        said.append(f"Left out: {', '.join(exclude)}.")
    seen = [case for case, role in roles.items() if role not in (TESTING_ONLY, NOT_KNOWN)]
    if seen:
        said.append(
            f"{len(seen)} of {len(roles)} patients were used without their labels for adaptation ({', '.join(seen)}): "
            "what they show is not what a new patient gets."
        )
    if NOT_KNOWN in roles.values():
        said.append("Neither the cards of the weights nor exclude say which patients were used for adaptation.")
    return said
