"""What goes into which bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STAGES = ("train", "evaluate", "inference")


@dataclass(frozen=True)
class Recipe:
    """A bundle.

    Attributes:
        name: of the bundle.
        workflow: whose configs it gets.
        weights: path in ``models`` without suffix -> stem of the weights in the repository, and of their page in
            ``docs/models``; ``model`` comes first.
        example: settings of a first run.
        settings: values that take the place of the stages' own.
        renamed: entries of the inference config that go by another name in the bundle.
        targets: components that are built in place of others.
        inference: entries that only the inference config has: what MONAI Label and MONAI Deploy build.
    """

    name: str
    workflow: str
    weights: Mapping[str, str]
    example: str
    settings: Mapping[str, Any]
    renamed: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, str] = field(default_factory=dict)
    inference: Mapping[str, Any] = field(default_factory=dict)


def _model(file: str) -> str:
    return f"$str(Path(@bundle_root) / 'models' / '{file}')"


MR_TO_CT = Recipe(
    name="mr_to_ct_synthesis",
    workflow="mr_to_ct",
    weights={"model": "mr_to_ct_head", "thigh/model": "mr_to_ct_thigh"},
    example="--dataset_dir T1.nii.gz --output_dir synthetic_ct",
    settings={
        "weights": "$str(Path(@bundle_root) / 'models' / ('model.pt' if @site == 'head' else @site + '/model.pt'))"
    },
    renamed={"inferer": "slice_inferer"},
    inference={
        "inferer": {
            "_target_": "medical_gans.inference.synthesis.SynthesisInferer",
            "fingerprint": "$@trained.fingerprint",
            "strict": "@strict",
            "preprocessing": "@preprocessing",
            "inferer": "@slice_inferer",
            "flips": "@flips",
            "across": "@across",
            "adjacent": "$@card.adjacent",
            "slice_batch": "@slice_batch",
            "tile": "@tile",
            "amp": "@amp",
        },
        "postprocessing": {  # whole HU
            "_target_": "Compose",
            "transforms": [{"_target_": "CastToTyped", "keys": "pred", "dtype": "$torch.int16"}],
        },
    },
)

LUNG_NODULE = Recipe(
    name="lung_nodule_generation",
    workflow="lung_nodule",
    weights={"model": "lung_nodule", "features/model": "lung_nodule_features"},
    example="--num_samples 16 --malignancy malignant --output_dir nodules",
    settings={"weights": _model("model.pt"), "features": _model("features/model.pt")},
)

BRAIN_LESION = Recipe(
    name="brain_lesion_segmentation",
    workflow="brain_lesion",
    weights={"model": "brain_lesion"},
    example="--dataset_dir CASES --output_dir lesions",
    settings={"weights": _model("model.pt"), "shipped_dir": "$str(Path(@bundle_root) / 'models')"},
)

RECIPES = {recipe.name: recipe for recipe in (MR_TO_CT, LUNG_NODULE, BRAIN_LESION)}
