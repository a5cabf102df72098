"""Promises of the trainer: resume bit for bit, alarms, several processes, one folder that tells all."""

import csv
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from medical_gans.errors import OutputError, SettingError, TrainingAlarm
from medical_gans.losses import adversarial_objective
from medical_gans.methods.cyclegan import CycleGan
from medical_gans.networks import ResnetGenerator, patch_discriminator
from medical_gans.training.handlers import (
    BestWeights,
    Checkpoints,
    LossTable,
    Pictures,
    Progress,
    TensorBoard,
    Validation,
)
from medical_gans.training.health import Alarms
from medical_gans.training.player import Player
from medical_gans.training.schedules import FlatThenLinear
from medical_gans.training.trainer import MethodTrainer, epoch_loader, seed_everything
from medical_gans.weights import load_weights

ROOT = Path(__file__).parents[1]


class Views(torch.utils.data.Dataset):
    """Random images that depend on epoch and index alone."""

    def __init__(self, length=4):
        self.length, self.epoch = length, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.epoch + index)
        return {k: torch.rand((1, 16, 16), generator=generator) * 2 - 1 for k in ("mr", "ct")}


def small_gan(seed=0):
    seed_everything(seed)
    networks = [ResnetGenerator(width=2, blocks=1) for _ in range(2)]
    judges = [patch_discriminator(width=2, layers=1, norm="none") for _ in range(2)]
    adam = partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999))
    schedule = partial(FlatThenLinear, flat_epochs=2, decay_epochs=4)
    generators = dict(zip(("mr_to_ct", "ct_to_mr"), networks, strict=True))
    generators = Player(generators, adam, schedule=schedule, average=["mr_to_ct"], ema_decay=0.9)
    discriminators = Player(dict(zip(("ct", "mr"), judges, strict=True)), adam, schedule=schedule)
    losses = {"adversarial": adversarial_objective("least_squares"), "cycle": torch.nn.L1Loss()}
    return CycleGan(generators, discriminators, losses, {"adversarial": 1.0, "cycle": 10.0}, pool_size=3)


def usual_handlers(
    folder, *, key_metric="cycle_mr+cycle_ct", validate=None, picture_every=100, alarms=None, resume=False, handlers=()
):
    """As the configs list them; what a test adds comes last."""
    return [
        Progress(),
        alarms or Alarms(),
        Validation(validate),
        BestWeights(folder, key_metric),
        LossTable(folder),
        Pictures(folder, picture_every),
        TensorBoard(folder, picture_every),
        Checkpoints(folder, resume),
        *handlers,
    ]


def train(folder, epochs, step=None, **options):
    given = torch.device("cpu"), epochs, epoch_loader(Views(), 2), step or small_gan()
    trainer = MethodTrainer(*given, usual_handlers(folder, **options))
    trainer.run()
    return trainer


def same(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return first == second


KILLED = textwrap.dedent(
    """
    import sys; sys.path.insert(0, {tests!r})
    import os, signal
    from test_training import small_gan, train
    from medical_gans.methods.cyclegan import CycleGan
    class Dying(CycleGan):
        calls = 0
        def __call__(self, batch):
            Dying.calls += 1
            if Dying.calls == 8:  # in the middle of the fourth epoch, two steps each
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(batch)
    step = small_gan()
    step.__class__ = Dying
    train({folder!r}, 6, step)
    """
)


def test_a_killed_run_continues_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole", 6)
    script = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "killed"))
    died = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    rest = train(tmp_path / "killed", 6, small_gan(seed=99), resume=True)
    assert rest.state.epoch == 6
    assert same(rest.method.state_dict(), whole.method.state_dict())
    weights = [torch.load(tmp_path / n / "model.pt", weights_only=True) for n in ("whole", "killed")]
    assert same(*weights)
    assert (tmp_path / "whole/losses.csv").read_text() == (tmp_path / "killed/losses.csv").read_text()


def test_a_run_is_never_overwritten(tmp_path):
    train(tmp_path, 1)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(OutputError, match=r"already holds a run.*--resume true"):
        train(tmp_path, 1)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_best_weights_are_those_of_the_smallest_figure(tmp_path):
    figures, shipped = iter([5.0, 2.0, 7.0]), []

    def validate(network):
        shipped.append({n: t.clone() for n, t in network.state_dict().items()})
        return {"mae": next(figures)}

    trainer = train(tmp_path, 3, validate=validate, key_metric="mae")
    assert next(h for h in trainer.handlers if isinstance(h, BestWeights)).best == 2.0
    kept = load_weights(ResnetGenerator(width=2, blocks=1), tmp_path / "model.pt").state_dict()
    assert same(dict(kept), shipped[1])


def test_log_holds_every_figure_of_every_epoch(tmp_path):
    train(tmp_path, 2)
    rows = list(csv.DictReader((tmp_path / "losses.csv").open()))
    names = {row["name"] for row in rows}
    assert {"adversarial_ct", "cycle_mr", "cycle_ct", "discriminator_ct"} <= names
    assert len(rows) == 2 * len(names)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_pictures_and_curves_are_written(tmp_path):
    train(tmp_path, 2, picture_every=1)
    assert (tmp_path / "pictures/epoch_0001.png").stat().st_size > 1000
    assert (tmp_path / "losses.png").stat().st_size > 1000


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    class Breaking(CycleGan):
        count = 0

        def __call__(self, batch):
            self.count += 1
            losses = super().__call__(batch)
            return {**losses, "cycle_mr": float("nan")} if self.count == 4 else losses

    step = small_gan()
    step.__class__ = Breaking
    with pytest.raises(TrainingAlarm, match="cycle_mr"):
        train(tmp_path, 5, step)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["counters"]["epoch"] == 1
    load_weights(ResnetGenerator(width=2, blocks=1), tmp_path / "model.pt")


def test_unknown_key_metric_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"'psnr'.*cycle_ct"):
        train(tmp_path, 1, key_metric="psnr")


def test_an_epoch_without_a_whole_batch_is_refused():
    assert len(epoch_loader(Views(4), 4)) == 1
    with pytest.raises(SettingError, match=r"views_per_epoch is 3, but a step takes 4 .*views_per_epoch to 4 or more"):
        epoch_loader(Views(3), 4)


def test_output_is_what_experiment_trackers_read(tmp_path):
    from monai.handlers import from_engine

    seen = []

    class Tracker:
        def attach(self, engine):
            from ignite.engine import Events

            engine.add_event_handler(
                Events.ITERATION_COMPLETED, lambda e: seen.append(from_engine(["loss"], first=True)(e.state.output))
            )

    train(tmp_path, 1, handlers=[Tracker()])
    assert len(seen) == 2
    assert all(float(loss) > 0 for loss in seen)


DISTRIBUTED = textwrap.dedent(
    """
    import sys; sys.path.insert(0, {tests!r})
    import torch, torch.distributed as distributed
    from test_training import Views, small_gan, usual_handlers
    from medical_gans.training.trainer import MethodTrainer, epoch_loader
    from medical_gans.training.parallel import join_processes
    torch.set_num_threads(1)
    device = join_processes("cpu")
    rank = distributed.get_rank()
    step = small_gan(seed=rank)
    handlers = usual_handlers({folder!r}, key_metric="cycle_mr")
    MethodTrainer(device, 2, epoch_loader(Views(), 1), step, handlers).run()
    torch.save(step.generators.networks.state_dict(), {folder!r} + f"/rank{{rank}}.pt")
    distributed.destroy_process_group()
    """
)


def test_two_processes_train_one_network(tmp_path):
    """Gradients averaged over two processes of batch one are those of one process of batch two."""
    script = tmp_path / "train.py"
    script.write_text(DISTRIBUTED.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "run")))
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=240, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"run/rank{r}.pt", weights_only=True) for r in (0, 1))
    assert same(dict(first), dict(second)), "the processes have drifted apart"
    start = small_gan(seed=0).generators.state_dict()
    assert not same(dict(first), dict(start)), "nothing was learnt"
    assert time.monotonic() - started < 240
