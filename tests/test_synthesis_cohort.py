"""A cohort is done case by case: whole or not at all, once, and what goes wrong is said and skipped."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from medical_gans.errors import InputError, OutputError, SettingError, UserError
from medical_gans.inference.synthesis import CaseEvaluator, SliceSynthesis, load_generators, one_case
from medical_gans.io import find_cases, save_volume
from medical_gans.networks import ResnetGenerator
from medical_gans.report import cases as report_cases
from medical_gans.weights import WeightsCard, save_weights

SHAPE = (24, 28, 16)
AFFINE = np.array([[0.0, 0, 3, -20], [2, 0, 0, -30], [0, -2.5, 0, 60], [0, 0, 0, 1]])


class Water(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(images) - 0.2


class Never:
    """A fingerprint that no MR matches."""

    def compare(self, array, spacing, modality=None, *, strict=False):
        if strict:
            raise InputError("This is no head.")
        return ["This is no head."]


def mr_array(seed: int = 0) -> np.ndarray:
    mr = np.zeros(SHAPE, dtype=np.int16)
    mr[4:20, 4:24, 3:13] = np.random.default_rng(seed).integers(300, 900, (16, 20, 10))
    return mr


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Drawing takes most of the time of these tests; it is done where the page is looked at."""
    if "page" in request.node.name:
        return
    for kind in ("overview", "contact_sheet", "histogram", "thumbnail"):

        def draw(volumes, path):
            path.write_bytes(b"picture")

        draw.__name__ = kind
        monkeypatch.setattr(report_cases, kind, draw)


@pytest.fixture
def dataset(tmp_path) -> Path:
    for number, name in enumerate(("anna", "bert", "cora")):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        save_volume(folder / "mr.nii.gz", mr_array(number), AFFINE)
    return tmp_path / "data"


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "model.pt"
    save_weights(path, nn.Linear(1, 1))
    return path


def evaluator(dataset: Path, weights: Path, **options) -> CaseEvaluator:
    generators = options.pop("generators", [Water()])
    arguments = {"output_dir": dataset.parent / "out", "dataset_dir": dataset, **options}
    return CaseEvaluator("cpu", find_cases(dataset), SliceSynthesis(generators), [weights], **arguments)


def left(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def calls(monkeypatch) -> list[Path]:
    """The MRs that were translated."""
    seen = []
    translate = SliceSynthesis.__call__

    def counted(self, mr, *others):
        seen.append(mr.source.parent.name)
        return translate(self, mr, *others)

    monkeypatch.setattr(SliceSynthesis, "__call__", counted)
    return seen


def test_every_case_leaves_a_ct_on_the_grid_of_its_mr_and_one_page(dataset, weights):
    evaluator(dataset, weights, generators=[Water(), Water()]).run()
    out = dataset.parent / "out"
    for name in ("anna", "bert", "cora"):
        mr = nibabel.load(dataset / name / "mr.nii.gz")
        for file in ("synthetic_ct.nii.gz", "uncertainty.nii.gz"):
            made = nibabel.load(out / name / file)
            np.testing.assert_allclose(made.affine, mr.affine, atol=1e-5)
            assert made.shape == mr.shape and made.get_data_dtype() == np.int16
        assert name in (out / "report.html").read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    assert set(manifest["cases"]) == {"anna", "bert", "cora"}
    assert set(manifest["inputs"]) == {f"{name}/mr.nii.gz" for name in ("anna", "bert", "cora")}
    assert list(manifest["weights"]) == ["model.pt"]


def test_finished_cases_are_not_done_again(dataset, weights, calls):
    evaluator(dataset, weights).run()
    evaluator(dataset, weights).run()
    assert calls == ["anna", "bert", "cora"]


def test_a_case_is_done_again_when_input_weights_or_settings_changed(dataset, weights, calls):
    evaluator(dataset, weights).run()
    calls.clear()
    save_volume(dataset / "bert" / "mr.nii.gz", mr_array(9), AFFINE)
    evaluator(dataset, weights).run()
    assert calls == ["bert"]
    calls.clear()
    save_weights(weights, nn.Linear(1, 1))
    evaluator(dataset, weights).run()
    assert calls == ["anna", "bert", "cora"]
    calls.clear()
    evaluator(dataset, weights, strict=True).run()
    assert calls == ["anna", "bert", "cora"]
    calls.clear()
    (dataset.parent / "out" / "cora" / "synthetic_ct.nii.gz").unlink()
    evaluator(dataset, weights, strict=True).run()
    assert calls == ["cora"]


def test_a_bad_case_is_skipped_and_named_after_the_others_are_done(dataset, weights):
    (dataset / "bert" / "mr.nii.gz").write_bytes((dataset / "bert" / "mr.nii.gz").read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 case failed and the others are done: bert \(.*truncated"):
        evaluator(dataset, weights).run()
    out = dataset.parent / "out"
    assert (out / "anna" / "synthetic_ct.nii.gz").is_file() and (out / "cora" / "synthetic_ct.nii.gz").is_file()
    assert not (out / "bert").exists()
    assert "truncated" in (out / "report.html").read_text()
    assert json.loads((out / "manifest.json").read_text())["cases"]["bert"]["status"] == "failed"


def test_an_unexpected_error_costs_one_case_of_a_cohort(dataset, weights, monkeypatch):
    compare = one_case.CaseSynthesis._compare

    def broken(self, mr):
        if mr.source.parent.name == "bert":
            raise KeyError("surprise")
        return compare(self, mr)

    monkeypatch.setattr(one_case.CaseSynthesis, "_compare", broken)
    with pytest.raises(UserError, match=r"bert.*unexpected KeyError"):
        evaluator(dataset, weights).run()
    assert (dataset.parent / "out" / "cora" / "synthetic_ct.nii.gz").is_file()


def test_too_little_memory_is_said_in_words(dataset, weights, monkeypatch):
    def full(self, mr, *_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(SliceSynthesis, "__call__", full)
    with pytest.raises(UserError, match=r"3 cases failed.*does not fit into the memory"):
        evaluator(dataset, weights).run()


def test_the_error_of_an_only_case_is_raised_as_it_is(dataset, weights):
    (dataset / "bert" / "mr.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"mr\.nii\.gz cannot be read"):
        evaluator(dataset / "bert", weights, output_dir=dataset.parent / "out").run()
    assert left(dataset.parent / "out") == []


def test_an_mr_unlike_those_of_training_is_said_or_with_strict_refused(dataset, weights):
    evaluator(dataset, weights, fingerprint=Never()).run()
    out = dataset.parent / "out"
    cases = json.loads((out / "manifest.json").read_text())["cases"]
    assert cases["anna"]["warnings"] == ["This is no head."]
    with pytest.raises(InputError, match=r"mr\.nii\.gz: This is no head"):
        evaluator(dataset / "anna", weights, output_dir=out, fingerprint=Never(), strict=True).run()


def test_the_true_ct_is_shown_and_one_on_another_grid_left_out_with_a_warning(dataset, weights, monkeypatch):
    shown = {}
    draw = one_case.write_case_report

    def seen(folder, name, *arrays, reference=None, **others):
        shown[name] = reference
        return draw(folder, name, *arrays, reference=reference, **others)

    monkeypatch.setattr(one_case, "write_case_report", seen)
    ct = np.where(mr_array() > 0, 40, -1000).astype(np.int16)
    save_volume(dataset / "anna" / "ct.nii.gz", ct, AFFINE)
    save_volume(dataset / "bert" / "ct.nii.gz", ct, AFFINE + np.eye(4))
    evaluator(dataset, weights).run()
    np.testing.assert_array_equal(shown["anna"], ct)
    assert shown["bert"] is None and shown["cora"] is None
    manifest = json.loads((dataset.parent / "out" / "manifest.json").read_text())
    assert "ct.nii.gz is left out" in manifest["cases"]["bert"]["warnings"][0]


@pytest.mark.parametrize("moment", ["translating", "saving", "drawing"])
def test_an_interrupt_leaves_whole_cases_only_and_the_next_run_goes_on(dataset, weights, moment, monkeypatch):
    places = {
        "translating": (SliceSynthesis, "__call__"),
        "saving": (one_case, "save_volume"),
        "drawing": (report_cases, "overview"),
    }
    owner, name = places[moment]
    original, count = getattr(owner, name), []

    def interrupted(*arguments, **options):
        count.append(1)
        if len(count) == 2:
            if moment == "drawing":
                arguments[1].write_bytes(b"half")
            raise KeyboardInterrupt
        return original(*arguments, **options)

    interrupted.__name__ = name
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluator(dataset, weights).run()
    out = dataset.parent / "out"
    assert {Path(file).parts[0] for file in left(out)} == {"anna", "report", "made_from.json"}
    assert all(file.startswith("anna/") for file in left(out / "report"))
    evaluator(dataset, weights).run()
    assert (out / "cora" / "synthetic_ct.nii.gz").is_file() and (out / "report.html").is_file()


def test_a_full_disk_stops_the_run_and_leaves_nothing_half_written(dataset, weights, monkeypatch, calls):
    def full(image, path):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(OutputError, match="disk or quota is full"):
        evaluator(dataset, weights).run()
    assert calls == ["anna"] and left(dataset.parent / "out") == []


def test_an_output_folder_that_cannot_be_written_is_refused_before_any_work(dataset, weights, calls, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        evaluator(dataset, weights, output_dir=tmp_path / "file" / "out").run()
    assert calls == []


def test_weights_files_of_one_name_are_told_apart(dataset, weights, tmp_path):
    (tmp_path / "fold").mkdir()
    other = tmp_path / "fold" / "model.pt"
    save_weights(other, nn.Linear(1, 1))
    cohort = CaseEvaluator("cpu", find_cases(dataset), SliceSynthesis([Water()]), [weights, other], tmp_path / "o")
    assert set(cohort.manifest.weights) == {f"{tmp_path.name}/model.pt", "fold/model.pt"}


@pytest.fixture
def network() -> nn.Module:
    return ResnetGenerator(width=2, blocks=0)


def test_weights_come_with_what_their_card_says(network, tmp_path):
    save_weights(tmp_path / "model.pt", network)
    WeightsCard((1.0, 1.0, None), "sagittal").save(tmp_path / "model.pt")
    trained = load_generators(tmp_path / "model.pt", ResnetGenerator(width=2, blocks=0))
    assert (trained.spacing, trained.plane, trained.fingerprint) == ([1.0, 1.0, None], "sagittal", None)
    for mine, theirs in zip(trained.generators[0].parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_weights_without_a_card_are_taken_with_a_warning(network, tmp_path, caplog):
    save_weights(tmp_path / "model.pt", network)
    trained = load_generators([tmp_path / "model.pt"], network)
    assert trained.spacing == (None, None, None) and "no card" in caplog.text


def test_weights_of_different_kinds_are_not_averaged(network, tmp_path):
    for name, spacing in (("a.pt", 1.0), ("b.pt", 2.0)):
        save_weights(tmp_path / name, network)
        WeightsCard((spacing, spacing, None)).save(tmp_path / name)
    with pytest.raises(SettingError, match=r"a\.pt and .*b\.pt were trained at different spacings"):
        load_generators([tmp_path / "a.pt", tmp_path / "b.pt"], network)
    WeightsCard((1.0, 1.0, None), adjacent=3).save(tmp_path / "b.pt")
    with pytest.raises(SettingError, match=r"a\.pt was trained on 1 adjacent slices, .*b\.pt on 3"):
        load_generators([tmp_path / "a.pt", tmp_path / "b.pt"], network)
    with pytest.raises(SettingError, match="at least one"):
        load_generators([], network)


def test_a_damaged_card_is_named(network, tmp_path):
    save_weights(tmp_path / "model.pt", network)
    (tmp_path / "model.json").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"model\.json is no card"):
        load_generators(tmp_path / "model.pt", network)


@pytest.mark.slow
def test_processes_share_the_cases_and_write_one_page(dataset, tmp_path, repository):
    """Started by torchrun, each of two processes does every second case; a bad one is named by both."""
    (dataset / "bert" / "mr.nii.gz").write_bytes(b"nonsense")
    save_weights(tmp_path / "tiny.pt", ResnetGenerator(width=2, blocks=0))
    network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
    WeightsCard([None] * 3, network_def=network_def).save(tmp_path / "tiny.pt")
    words = ["mr_to_ct", "inference", "--dataset_dir", dataset, "--output_dir", tmp_path / "out"]
    words += ["--weights", tmp_path / "tiny.pt"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "medical_gans", *map(str, words)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode != 0 and "1 case failed and the others are done: bert" in done.stderr
    cases = json.loads((tmp_path / "out" / "manifest.json").read_text())["cases"]
    # random weights make no CT, and the quality gate says so: "warning" is a case that was written
    assert {name: case["status"] == "failed" for name, case in cases.items()} == {
        "anna": False,
        "bert": True,
        "cora": False,
    }
