"""One training step of CycleGAN over a plain PyTorch one with the same networks, batch and threads.

The reference is `plain_step` with `plain_generator` and `plain_discriminator`, written as the paper's authors do:
layers of PyTorch in its default layout, its default optimisers, networks one after the other, discriminators without
gradients while generators learn; no running average, no clipping, no pool. It has the weights and the results of ours.
Ours is `methods.CycleGan` as the config of mr_to_ct training puts it together, clipping, running average and pool
included. Both take turns; the ratio is the median over pairs, of processor time of one thread.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from medical_gans.losses import adversarial_objective
from medical_gans.methods.cyclegan import CycleGan
from medical_gans.networks import ResnetGenerator, patch_discriminator
from medical_gans.training.player import Player

SIDES = ("mr", "ct")
DEFAULT = {"width": 16, "blocks": 6, "norm": "none", "upsampling": "resize"}
PAPER = {"width": 32, "blocks": 6, "norm": "instance", "upsampling": "transposed"}
LEARNING_RATE, BETAS, CYCLE_WEIGHT = 2e-4, (0.5, 0.999), 10.0


def networks(width: int, blocks: int, norm: str, upsampling: str) -> nn.ModuleDict:
    """Two generators and two discriminators."""
    made = {}
    for side, other in (SIDES, SIDES[::-1]):
        made[f"{side}_to_{other}"] = ResnetGenerator(width=width, blocks=blocks, norm=norm, upsampling=upsampling)
        made[side] = patch_discriminator(width=width, layers=3, norm=norm)
    return nn.ModuleDict(made)


class PlainBlock(nn.Module):
    """Residual block of Zhu et al. 2017."""

    def __init__(self, channels: int, norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), *_plain_norm(channels, norm), nn.ReLU(inplace=True)]
        self.branch = nn.Sequential(*layers[:-1])

    def forward(self, features: Tensor) -> Tensor:
        """Add the branch."""
        return features + self.branch(features)


def plain_generator(width: int, blocks: int, norm: str, upsampling: str) -> nn.Sequential:
    """Generator of Zhu et al. 2017, appendix 7.2; upsampling by nearest neighbours on request (Odena et al. 2016)."""
    has_norm = norm == "instance"

    def then(convolution: nn.Module, channels: int) -> list[nn.Module]:
        return [convolution, *_plain_norm(channels, has_norm), nn.ReLU(inplace=True)]

    layers = then(nn.Conv2d(1, width, 7, padding=3, padding_mode="reflect"), width)
    for channels in (width, 2 * width):
        layers += then(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), 2 * channels)
    layers += [PlainBlock(4 * width, has_norm) for _ in range(blocks)]
    for channels in (4 * width, 2 * width):
        half = channels // 2
        if upsampling == "transposed":
            layers += then(nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1), half)
        else:
            layers += [nn.Upsample(scale_factor=2.0), *then(nn.Conv2d(channels, half, 3, padding=1), half)]
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 7, padding=3, padding_mode="reflect"), nn.Tanh())


def plain_discriminator(width: int, norm: str) -> nn.Sequential:
    """PatchGAN of 70 x 70 voxels (Isola et al. 2017) with three strided layers."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for number in range(3):
        channels, stride = width * 2**number, 2 if number < 2 else 1
        convolution = nn.Conv2d(channels, 2 * channels, 4, stride=stride, padding=1, bias=norm == "none")
        layers += [convolution, *_plain_norm(2 * channels, norm == "instance"), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, stride=1, padding=1))


def _plain_norm(channels: int, wanted: bool) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels)] if wanted else []


def plainly(game: nn.ModuleDict, width: int, blocks: int, norm: str, upsampling: str) -> nn.ModuleDict:
    """The same networks in layers of PyTorch, with the same weights."""
    plain = nn.ModuleDict()
    for name, network in game.items():
        judges = name in SIDES
        plain[name] = plain_discriminator(width, norm) if judges else plain_generator(width, blocks, norm, upsampling)
        with torch.no_grad():
            for own, given in zip(plain[name].parameters(), network.parameters(), strict=True):
                own.copy_(given)
    return plain


def plain_step(game: nn.ModuleDict) -> Callable[[Tensor, Tensor], None]:
    """A step of Zhu et al. 2017 in plain PyTorch."""
    to_ct, to_mr, judge_mr, judge_ct = (game[name] for name in ("mr_to_ct", "ct_to_mr", "mr", "ct"))
    judges = [*judge_mr.parameters(), *judge_ct.parameters()]
    generators = itertools.chain(to_ct.parameters(), to_mr.parameters())
    for_generators = torch.optim.Adam(generators, LEARNING_RATE, betas=BETAS)
    for_judges = torch.optim.Adam(judges, LEARNING_RATE, betas=BETAS)

    def error(judge: nn.Module, images: Tensor, wanted: float) -> Tensor:
        logits = judge(images)
        return functional.mse_loss(logits, torch.full_like(logits, wanted))

    def step(mr: Tensor, ct: Tensor) -> None:
        fake_ct, fake_mr = to_ct(mr), to_mr(ct)
        cycle = functional.l1_loss(to_mr(fake_ct), mr) + functional.l1_loss(to_ct(fake_mr), ct)
        for parameter in judges:
            parameter.requires_grad_(False)
        for_generators.zero_grad()
        (error(judge_ct, fake_ct, 1.0) + error(judge_mr, fake_mr, 1.0) + CYCLE_WEIGHT * cycle).backward()
        for_generators.step()
        for parameter in judges:
            parameter.requires_grad_(True)
        for_judges.zero_grad()
        for judge, real, fake in ((judge_ct, ct, fake_ct), (judge_mr, mr, fake_mr)):
            (0.5 * (error(judge, real, 1.0) + error(judge, fake.detach(), 0.0))).backward()
        for_judges.step()

    return step


def our_step(game: nn.ModuleDict, amp: bool = False) -> Callable[[Tensor, Tensor], object]:
    """A step of `CycleGan`, put together as in ``configs/mr_to_ct_train.yaml``, without the structure loss."""
    optimizer = partial(torch.optim.Adam, lr=LEARNING_RATE, betas=BETAS, fused=True)
    settings = {"optimizer": optimizer, "clip_norm": 5.0, "amp": amp, "amp_type": "bfloat16"}
    names = ("mr_to_ct", "ct_to_mr")
    method = CycleGan(
        Player({name: game[name] for name in names}, average=["mr_to_ct"], **settings),
        Player({name: game[name] for name in SIDES}, clip_each=True, **settings),
        {"adversarial": adversarial_objective("least_squares"), "cycle": nn.L1Loss()},
        {"adversarial": 1.0, "cycle": CYCLE_WEIGHT},
    )
    return lambda mr, ct: method({"mr": mr, "ct": ct})


def ratios(
    kind: dict[str, int | str], size: int, batch: int, rounds: int, amp: bool, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Seconds of the plain step, of ours, and how many times faster ours is: medians over pairs."""
    torch.manual_seed(0)
    game = networks(**kind)  # type: ignore[arg-type]
    plain, ours = plain_step(plainly(game, **kind)), our_step(game, amp)  # type: ignore[arg-type]
    mr, ct = (torch.rand(batch, 1, size, size) * 2 - 1 for _ in SIDES)
    seconds = []
    for _ in range(rounds + 1):
        begin = clock()
        plain(mr, ct)
        between = clock()
        ours(mr, ct)
        seconds.append((between - begin, clock() - between))
    pairs = np.array(seconds[1:])  # the first one compiles kernels
    return float(np.median(pairs[:, 0])), float(np.median(pairs[:, 1])), float(np.median(pairs[:, 0] / pairs[:, 1]))


def main() -> None:
    """Print the ratio for the default networks and for the paper's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=128, help="voxels of a view's edge")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--amp", action="store_true", help="ours in bfloat16, the plain step in float32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.process_time if given.threads == 1 else time.perf_counter
    for name, kind, batch in (("default", DEFAULT, 1), ("default", DEFAULT, 4), ("paper", PAPER, 1)):
        plain, ours, ratio = ratios(kind, given.size, batch, given.rounds, given.amp, clock)
        print(f"{name} networks, batch {batch}: {ratio:.2f} times faster ({plain:.3f} s plain, {ours:.3f} s ours)")


if __name__ == "__main__":
    main()
