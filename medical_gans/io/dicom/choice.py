"""Which series of DICOM sources become cases, where a person chose one or asked for all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from medical_gans.errors import InputError
from medical_gans.io.dicom.index import SeriesSummary, list_series
from medical_gans.io.formats import may_hold_dicom

if TYPE_CHECKING:
    from medical_gans.io.cases import Case

logger = logging.getLogger(__name__)


def choose_series(cases: Sequence[Case], series_uid: str | None = None) -> list[Case]:
    """The case that holds a series; or, where none is named, a case for every MR series.

    Cases made from one source are told apart by their SeriesNumber, or by a count where that does not suffice.

    Raises:
        InputError: no case holds the series.
    """
    chosen: list[Case] = []
    tables = []
    for case in cases:
        if case.mr is None or not (case.files or may_hold_dicom(case.mr)):
            chosen += [case] if series_uid is None else []
            continue
        found = list_series(case.mr_source or ())
        tables.append("\n".join(f"  {one}" for one in found))
        if series_uid is None:
            chosen += _every_mr(case, found)
        elif any(one.uid == series_uid for one in found):
            chosen.append(replace(case, series_uid=series_uid))
    if not chosen:
        wanted = "no MR series" if series_uid is None else f"no series {series_uid}"
        raise InputError(f"The data set holds {wanted}. It holds:\n" + "\n".join(tables or ["  no DICOM series"]))
    return chosen


def _every_mr(case: Case, found: Iterable[SeriesSummary]) -> list[Case]:
    series = [one for one in found if one.modality == "MR"]
    logger.info("DICOM series of %s: %d, of which MR: %d", case.name, len(list(found)), len(series))
    if len(series) == 1:
        return [replace(case, series_uid=series[0].uid)]
    numbers = Counter(one.number for one in series)
    made = []
    for count, one in enumerate(series, start=1):
        own = one.number is not None and numbers[one.number] == 1
        name = f"{case.name}_series{one.number if own else f'_{count}'}"
        made.append(replace(case, name=name, series_uid=one.uid))
        logger.info("%s: %s", name, one)
    return made
