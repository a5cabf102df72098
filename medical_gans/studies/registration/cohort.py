"""A cohort of pairs that were not registered becomes a training set of pairs that are."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medical_gans.inference.cohort import CohortEvaluator, Progress, is_made_from, made_from, timed
from medical_gans.io import Case, Volume, read_volume, save_volume
from medical_gans.io.ownership import Origin, Source, remove_ours, source
from medical_gans.io.writing import whole_file, whole_folder
from medical_gans.report import CASES_FOLDER, Manifest, case_records, input_hashes, write_record
from medical_gans.studies.registration.elastix import require_extra
from medical_gans.studies.registration.pair import PairRegistration, RegisteredPair
from medical_gans.studies.registration.pictures import CAPTION, registration_sheet, thumbnail
from medical_gans.studies.registration.trust import Limits

PAIRS_TABLE = "pairs.csv"
_RUN = "mr_to_ct register"
_MEANINGS = {
    "dark_cortex": "dense bone of the CT that is darker on the MR than the soft tissue near it (1 perfect, 0.5 chance)",
    "cortex_lead": "the same minus its median with the CT 8 mm beside",
    "information": "mutual information in the body (nats)",
    "outside": "share of the MR's body in air on the CT",
    "unseen": "share of the MR's body that the CT does not cover",
    "trusted": "share of the body within both views that is trusted",
    "folded": "share of the body where the deformation folds",
    "bone_ml": "dense bone on the CT in the body (ml)",
}


class RegistrationEvaluator(CohortEvaluator):
    """Registers the CT of each case to its MR, judges the result, and keeps what can be trusted.

    Written to `output_dir`: for each pair that passes ``<case>/mr.nii.gz``, ``ct.nii.gz`` (int16 HU on the grid of the
    MR), ``mask.nii.gz`` (body within both views) and ``trusted.nii.gz`` (where the pair may teach), a training set for
    ``mr_to_ct train`` with ``paired=true``; pictures of every pair, refused ones too, under ``report/<case>/``;
    ``pairs.csv`` with all figures; ``report.html`` and ``manifest.json``.

    Args:
        cases: with MR and CT, on any grids.
        output_dir: folder for everything written.
        registration: how a pair is registered.
        limits: that a pair must reach.
        guide: weights files, and what makes of an MR an object with ``hounsfield``, see `guided_by`: its synthetic CT
            guides the B-spline. None goes without.
        dataset_dir: data set that the cases were found in.
        device: of the guide's generators.

    Raises:
        SettingError: itk-elastix is missing.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        output_dir: str | Path,
        registration: PairRegistration,
        limits: Limits | None = None,
        *,
        guide: tuple[Sequence[Path], Callable[[Volume], Any]] | None = None,
        dataset_dir: str | Path | Sequence[str | Path] = ".",
        device: Any = "cpu",
    ) -> None:
        require_extra()
        self.registration = registration
        self.translate = None if guide is None else guide[1]
        files = [] if guide is None else guide[0]
        self.limits = limits or Limits()
        self.root = dataset_dir if isinstance(dataset_dir, str | Path) else "."
        self.decisive = {
            **{name: getattr(registration, name) for name in ("reach", "rotation", "starts", "deformable")},
            **asdict(registration.schedule),
            **{f"limit_{name}": value for name, value in asdict(self.limits).items()},
        }
        shown = dataset_dir if isinstance(dataset_dir, str | Path) else [str(place) for place in dataset_dir]
        manifest = Manifest(
            "mr_to_ct",
            "register",
            settings={"dataset_dir": shown, "guided": guide is not None, **self.decisive},
            seed=registration.schedule.seed,
            device=str(device),
        )
        for file in files:
            manifest.add_weights(file)
        self.weights = sorted(manifest.weights.values())
        super().__init__(
            device,
            cases,
            output_dir,
            manifest,
            title="CT registered to MR",
            verb="register",
            part="step",
            advice="Crop both images to the site.",
        )

    names = (*CohortEvaluator.names, PAIRS_TABLE)

    def is_finished(self, case: Case) -> bool:
        """Whether the pair, or its refusal, lies in the output folder, made from the same by the same."""
        facts, pictures = self._made_from(case), self.output_dir / CASES_FOLDER / case.name
        if not is_made_from(pictures, facts):
            return False
        record = json.loads((pictures / "case.json").read_text(encoding="utf-8"))
        return not record["metrics"].get("accepted") or is_made_from(self.output_dir / case.name, facts)

    def sources(self, case: Case) -> list[Source]:
        """The MR and the CT that a pair is made of."""
        return [source(*(case.files or [case.mr]), detail=case.series_uid), source(case.ct)]

    def do_case(self, case: Case, on_progress: Progress) -> list[str]:
        """Register, judge and write a pair; a refused one leaves its pictures only.

        Raises:
            InputError: an image cannot be read, or the two share too little.
        """
        assert case.mr is not None and case.ct is not None
        seconds: dict[str, float] = {}
        with timed(seconds, "read"):
            mr, ct = read_volume(case.mr_source or case.mr, repair=True), read_volume(case.ct, repair=True)
            made = self._made_from(case)
        guide = None
        if self.translate is not None:
            with timed(seconds, "synthesis"):
                guide = Volume(self.translate(mr).hounsfield, mr.affine, mr.source)
        with timed(seconds, "registration"):
            pair = self.registration(mr, ct, guide, on_progress)
        refusals = pair.agreement.refusals(self.limits)
        warnings = [*mr.repairs, *ct.repairs, *(f"Refused. {sentence}" for sentence in refusals)]
        origin = Origin(_RUN, self.sources(case), made)
        with timed(seconds, "write"):
            if refusals:  # a pair of an earlier run with other settings would be trained on
                remove_ours(self.output_dir / case.name, _RUN)
            else:
                self._keep(case, mr, pair, origin)

        def draw(place: Path) -> dict[str, str]:
            registration_sheet(pair, mr.array, mr.affine, place / "registration.png")
            thumbnail(pair, mr.array, mr.affine, place / "thumbnail.png")
            return {"registration": CAPTION}

        write_record(
            self.output_dir,
            case.name,
            draw=draw,
            tables={"registration": _table(pair, self.limits)},
            metrics=_metrics(pair, accepted=not refusals),
            warnings=warnings,
            inputs=made["inputs"],
            seconds=seconds,
            origin=origin,
        )
        return warnings

    def finish(self) -> None:
        """Write the table of all pairs, accepted and refused."""
        records = [record for record in case_records(self.output_dir) if record["metrics"]]
        names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
        with whole_file(self.output_dir / PAIRS_TABLE) as temporary, open(temporary, "w", newline="") as file:
            rows = csv.DictWriter(file, ["case", *names])
            rows.writeheader()
            for record in records:
                figures = {name: f"{value:.4g}" for name, value in record["metrics"].items()}
                rows.writerow({"case": record["name"], **figures})
        accepted = sum(record["metrics"]["accepted"] for record in records)
        print(f"{accepted:.0f} of {len(records)} pairs are accepted; {PAIRS_TABLE} has the figures of all.")
        if not accepted:
            self.manifest.add_warning("No pair was accepted, so there is nothing to train on.")

    def _keep(self, case: Case, mr: Volume, pair: RegisteredPair, origin: Origin) -> None:
        images = {"mr": mr.array, "ct": pair.hounsfield, "mask": pair.mask, "trusted": pair.trusted}
        with whole_folder(self.output_dir / case.name, origin) as folder:
            for name, array in images.items():
                save_volume(folder / f"{name}.nii.gz", array, mr.affine)

    def _made_from(self, case: Case) -> dict[str, Any]:
        inputs = input_hashes(*(case.files or [case.mr]), case.ct, dataset_dir=self.root)
        return {**made_from(self.weights, self.decisive, inputs), "data_for_others": True}


def guided_by(
    load_generators: Callable[[], Any], synthesis: Callable[..., Any]
) -> tuple[Sequence[Path], Callable[[Volume], Any]]:
    """The guide of a `RegistrationEvaluator`.

    Args:
        load_generators: gives trained generators, as `inference.synthesis.load_generators` does.
        synthesis: makes of generators what translates an MR: `inference.synthesis.SliceSynthesis`.

    Raises:
        InputError: the weights cannot be used.
    """
    trained = load_generators()
    return trained.files, synthesis(trained.generators)


def _metrics(pair: RegisteredPair, accepted: bool) -> dict[str, float]:
    moved = pair.displacement[pair.mask] if pair.mask.any() else np.zeros(1)
    figures = {
        "accepted": float(accepted),
        "dark_cortex_before": pair.before_agreement.dark_cortex,
        "dark_cortex": pair.agreement.dark_cortex,
        "cortex_lead_before": pair.before_agreement.cortex_lead,
        "cortex_lead": pair.agreement.cortex_lead,
        "information_before": pair.before_agreement.information,
        "information": pair.agreement.information,
        "outside": pair.agreement.outside,
        "unseen": pair.agreement.unseen,
        "trusted": pair.agreement.trusted,
        "moved_mean_mm": float(moved.mean()),
        "moved_p95_mm": float(np.percentile(moved, 95)),
    }
    return {name: value for name, value in figures.items() if value is not None}


def _table(pair: RegisteredPair, limits: Limits) -> list[dict[str, str]]:
    """Figures before and after, with their limits and a light for those that decide."""
    bounds = {
        "cortex_lead": (limits.cortex_lead, True),
        "outside": (limits.outside, False),
        "unseen": (limits.unseen, False),
        "trusted": (limits.trusted, True),
        "folded": (limits.folded, False),
    }
    before, after = asdict(pair.before_agreement), asdict(pair.agreement)
    rows = []
    for name, meaning in _MEANINGS.items():
        light, wanted = "", ""
        if name in bounds:
            limit, at_least = bounds[name]
            wanted = f"at {'least' if at_least else 'most'} {limit:g}"
            value = after[name]
            passed = value is not None and (value >= limit if at_least else value <= limit)
            light = "not judged" if value is None else "green" if passed else "red"
        rows.append(
            {
                "figure": meaning,
                "as it came": _shown(before[name]),
                "registered": _shown(after[name]),
                "needed": wanted,
                "light": light,
            }
        )
    return rows


def _shown(value: float | None) -> str:
    return "too little bone" if value is None else f"{value:.3g}"
