"""Losses of a translation whose truth is known, with bone as a class of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def weighted_l1(made: Tensor, truth: Tensor, weight: Tensor, smooth: float = 0.0) -> Tensor:
    """Mean over all voxels of ``weight |made - truth|``; all ``(batch, channel, *spatial)``.

    Args:
        made: image.
        truth: image.
        weight: of each voxel.
        smooth: error up to which its square counts, ``error^2 / (2 smooth)`` (Huber 1964): the best guess is then
            a mean instead of a median, which leaves out small contrasts that are seen with doubt. 0 is L1.
    """
    error = (made - truth).abs()
    if smooth > 0:
        error = torch.where(error < smooth, error.square() / (2 * smooth), error - smooth / 2)
    return (error * weight).mean()


def bone_terms(
    logit: Tensor,
    soft: Tensor,
    bone: Tensor,
    truth: Tensor,
    weight: Tensor,
    threshold: float,
    smooth: float = 0.0,
) -> dict[str, Tensor]:
    """What the branches of `networks.BoneGenerator` learn, each where it holds.

    Cross-entropy of the probability, in which a voxel of bone counts twice, and L1 of HU of soft tissue outside bone
    and of bone inside it.

    Args:
        logit: of bone, ``(batch, channel, *spatial)``.
        soft: soft tissue in unit space.
        bone: bone in unit space.
        truth: CT in unit space.
        weight: of each voxel; 0 where the truth is not trusted.
        threshold: unit above which the truth is bone.
        smooth: of soft tissue, see `weighted_l1`.
    """
    is_bone = (truth > threshold).to(truth.dtype)
    known = weight.clamp(max=1.0)
    doubt = binary_cross_entropy_with_logits(logit, is_bone, reduction="none")
    return {
        "bone_probability": (doubt * known * (1.0 + is_bone)).mean(),
        "soft": weighted_l1(soft, truth, weight * (1.0 - is_bone), smooth),
        "bone": weighted_l1(bone, truth, weight * is_bone),
    }


def tissue_cross_entropy(logits: Tensor, shares: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy of the classes of a voxel against what it holds of each, in which a voxel of brain counts double.

    Args:
        logits: of all that is no brain and of each tissue of it, ``(batch, channel * (1 + tissues), *spatial)``.
        shares: of each tissue, ``(batch, channel * tissues, *spatial)``, in [0, 1]; what is missing to 1 is no brain.
        weight: of each voxel, ``(batch, channel, *spatial)``; 0 where the truth is not trusted.
    """
    channels = weight.shape[1]
    tissues = shares.unflatten(1, (-1, channels))
    brain = tissues.sum(1, keepdim=True).clamp(max=1.0)
    doubt = -(torch.cat([1.0 - brain, tissues], 1) * logits.unflatten(1, (-1, channels)).log_softmax(1)).sum(1)
    return (doubt * weight.clamp(max=1.0) * (1.0 + brain[:, 0])).mean()


def nearest_shift(made: Tensor, truth: Tensor, weight: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """Truth and weight moved by the whole voxels, at most `reach` along each axis, that fit an image best.

    Registered pairs are off by some mm here and there. L1 against a truth that lies elsewhere teaches blur; moved as a
    whole to where the network sees the anatomy it teaches HU and edges (a coarse form of the registration
    of RegGAN, Kong et al. 2021). What the move brings in from outside has weight 0.

    Args:
        made: ``(channel, rows, columns)``, detached.
        truth: same shape.
        weight: same shape.
        reach: voxels.
    """
    rows, columns = made.shape[1:]
    best, found = None, (truth, weight)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            here = (..., *_overlap(rows, down)[0:1], *_overlap(columns, right)[0:1])
            there = (..., *_overlap(rows, down)[1:2], *_overlap(columns, right)[1:2])
            known = weight[there]
            # the border of `reach` is left out of the choice, so that all shifts are judged on the same voxels
            total = known.sum()
            if total <= 0:
                continue
            distance = float(((made[here] - truth[there]).abs() * known).sum() / total)
            if best is None or distance < best:
                best = distance
                moved_truth, moved_weight = truth.clone(), weight.new_zeros(weight.shape)
                moved_truth[here], moved_weight[here] = truth[there], known
                found = (moved_truth, moved_weight)
    return found


def _overlap(count: int, shift: int) -> tuple[slice, slice]:
    """Where an axis of `count` voxels, moved by `shift`, lies on itself: target and source."""
    return slice(max(shift, 0), count + min(shift, 0)), slice(max(-shift, 0), count - max(shift, 0))
