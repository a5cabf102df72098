"""Several processes as one training: who writes, and how weights and gradients stay equal."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as distributed
from torch import nn

from medical_gans.errors import SettingError


def join_processes(device: torch.device | str) -> torch.device:
    """Device of this process; joins the group when started by torchrun (gloo on CPU, NCCL on GPUs).

    Raises:
        SettingError: there is no such kind of device.
    """
    try:
        device = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise SettingError(f"device is {device!r}; give cpu, cuda, or cuda and a number such as cuda:1.") from error
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda" and distributed.is_initialized():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    return device


def is_first_process() -> bool:
    """Whether this process writes files and prints."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def own_noise(count: int, size: int, device: torch.device) -> torch.Tensor:
    """``(count, size)`` normal numbers of this process, drawn so that the processes stay in step yet differ."""
    if not distributed.is_initialized():
        return torch.randn(count, size, device=device)
    everyones = torch.randn(distributed.get_world_size(), count, size, device=device)
    return everyones[distributed.get_rank()]


def share_weights(module: nn.Module) -> None:
    """Give every process the weights of the first."""
    if distributed.is_available() and distributed.is_initialized():
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Mean gradient over processes; DistributedDataParallel allows one forward pass per backward, a cycle needs two."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
