"""How far mixed precision moves the HU of shipped weights, and what it saves, on one MR.

    python benchmarks/mixed_precision.py --site head --mr sample

Both precisions translate the MR with the settings of the card, one after the other, one thread, processor time.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from medical_gans.cli.config_files import models_dir
from medical_gans.inference.synthesis import SliceSynthesis, load_generators
from medical_gans.io import find_cases, read_volume
from medical_gans.networks.layout import computes_in_bfloat16

BODY_HU, BONE_HU = -400, 250


def differences(mixed: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """HU by which a synthetic CT in mixed precision differs from that in float32."""
    moved = mixed.astype(np.float32) - exact.astype(np.float32)
    body, bone = exact > BODY_HU, exact > BONE_HU
    return {
        "mean in the body": float(np.abs(moved[body]).mean()),
        "mean above 250 HU": float(np.abs(moved[bone]).mean()),
        "bias in the body": float(moved[body].mean()),
        "bias above 250 HU": float(moved[bone].mean()),
        "99 % in the body": float(np.percentile(np.abs(moved[body]), 99)),
        "largest": float(np.abs(moved).max()),
    }


def main() -> None:
    """Translate twice and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", default="head", help="of the shipped weights: head or thigh")
    parser.add_argument("--mr", default="sample", help="an MR, or sample")
    given = parser.parse_args()
    if not computes_in_bfloat16():
        parser.error("this CPU has no instructions for bfloat16, so amp changes nothing here")
    torch.set_num_threads(1)
    case = find_cases(given.mr)[0]
    mr = read_volume(case.mr_source or "", modality="MR")
    trained = load_generators(models_dir() / f"mr_to_ct_{given.site}.pt")
    made, seconds = {}, {}
    for amp in (False, True):
        synthesis = SliceSynthesis(trained.generators, trained.spacing, trained.plane, amp=amp, uncertainty=False)
        begin = time.process_time()
        made[amp] = synthesis(mr).hounsfield
        seconds[amp] = time.process_time() - begin
    for name, value in differences(made[True], made[False]).items():
        print(f"{name}: {value:.2f} HU")
    print(f"processor time: {seconds[True] / seconds[False]:.2f} of float32 ({seconds[False]:.1f} s)")


if __name__ == "__main__":
    main()
