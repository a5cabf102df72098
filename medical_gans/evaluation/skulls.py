"""Figures of the skull in a synthetic CT of a head, alone and against those of the true CT."""

from __future__ import annotations

import numpy as np

from medical_gans.io import Volume
from medical_gans.io.orientation import ras_spacing, ras_view
from medical_gans.metrics.vault import Vault, measure_vault
from medical_gans.transforms import body_mask

SKULL_DEFINITIONS = {
    "vault_closed": "share of rays from the middle of the brain that meet 2 mm of skull above 300 HU",
    "vault_thickness_mm": "median over these rays of the length above 300 HU",
    "vault_largest_hu": "median over these rays of the largest HU",
    "skull_density_ratio": "median over these rays of HU of the marrow relative to that of the tables",
    "inner_bone": "share of the inner 70 % of these rays above 150 HU, by volume",
    "brain_spread_hu": "interquartile range of HU there",
    "vault_thickness_error_mm": "mean over these rays of the absolute difference of their thickness in method and "
    "reference",
}


def skull_figures(hounsfield: np.ndarray, mr: Volume, reference: np.ndarray | None = None) -> dict[str, float]:
    """Figures of `metrics.vault.Vault` and, with a true CT, the error of thickness ray by ray.

    Args:
        hounsfield: HU on the grid of the MR.
        mr: gives the grid.
        reference: true CT in HU there; its head decides for both where the rays begin and end.

    Returns:
        By name, see `SKULL_DEFINITIONS`; nothing where the vault is not in the picture as a whole.
    """
    spacing = ras_spacing(mr.affine)
    images = [ras_view(image, mr.affine) for image in (hounsfield, reference) if image is not None]
    body = body_mask(images[-1], spacing, "CT")
    vaults: list[Vault | None] = [measure_vault(image, body, spacing) for image in images]
    if vaults[0] is None:
        return {}
    figures = vaults[0].figures()
    if len(vaults) > 1 and vaults[1] is not None:
        difference = np.abs(vaults[0].thicknesses_mm - vaults[1].thicknesses_mm)
        figures["vault_thickness_error_mm"] = float(np.nanmean(difference))
    return figures
