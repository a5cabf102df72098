"""Evaluation on patients whose true CT is known: figures, tables, and what is refused."""

import csv
import itertools
import json
import math
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import scipy.stats

from medical_gans.cli import config_files
from medical_gans.errors import InputError, OutputError, UserError
from medical_gans.evaluation import StoredSyntheticCt, TranslationEvaluation, synthetic_ct_source, translation
from medical_gans.evaluation.figures import DEFINITIONS, bootstrap_interval, summarise, text_table
from medical_gans.io import find_cases, read_volume, save_volume
from medical_gans.metrics import synthetic_ct_metrics
from medical_gans.report import Manifest

SHAPE = (30, 28, 20)
AFFINE = np.array([[0.0, 0, 3, -20], [2, 0, 0, -30], [0, -2.5, 0, 60], [0, 0, 0, 1]])
ERROR_HU = {"anna": 20, "bert": -40, "carl": 50}


def patient(seed: int) -> dict[str, np.ndarray]:
    """Muscle, fat and bone in air; the MR tells them apart, the bone's size differs."""
    rng = np.random.default_rng(seed)
    tissue = np.zeros(SHAPE, dtype=int)
    tissue[4:26, 4:24, 2:18] = 1
    tissue[5:25, 5:23, 2:18] = 2
    tissue[8 : 14 + seed, 8:14, 2:18] = 3
    ct = np.array([-1000, -100, 50, 600])[tissue] + rng.integers(-10, 11, SHAPE)
    mr = np.array([0, 900, 400, 100])[tissue] + (tissue > 0) * rng.integers(-20, 21, SHAPE)
    return {"mr": mr.astype(np.int16), "ct": ct.astype(np.int16), "mask": (tissue > 0).astype(np.uint8)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dataset")
    for seed, name in enumerate(ERROR_HU):
        (folder / name).mkdir()
        for kind, array in patient(seed).items():
            save_volume(folder / name / f"{kind}.nii.gz", array, AFFINE)
    return folder


@pytest.fixture
def own_dataset(dataset, tmp_path):
    """A copy in which files may be spoilt."""
    return shutil.copytree(dataset, tmp_path / "dataset")


@pytest.fixture
def predictions(tmp_path):
    """What an inference run leaves, each patient with a constant error."""
    for seed, (name, error) in enumerate(ERROR_HU.items()):
        (tmp_path / "predictions" / name).mkdir(parents=True)
        ct = patient(seed)["ct"]
        save_volume(tmp_path / "predictions" / name / "synthetic_ct.nii.gz", ct + np.int16(error), AFFINE)
    return tmp_path / "predictions"


@pytest.fixture
def without_pictures(monkeypatch):
    monkeypatch.setattr(translation, "write_case_report", lambda *arguments, **named: None)


def evaluation(dataset, source, output_dir, **options):
    return TranslationEvaluation(
        find_cases(dataset, required=("mr", "ct")), source, output_dir, dataset_dir=dataset, **options
    )


def read_tables(folder):
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    return rows, json.loads((folder / "metrics.json").read_text(), parse_constant=refuse)


def test_a_known_error_gives_a_known_table(dataset, predictions, tmp_path, without_pictures, capsys):
    figures = evaluation(dataset, StoredSyntheticCt(predictions), tmp_path / "out").run()
    for seed, (name, error) in enumerate(ERROR_HU.items()):
        truth = patient(seed)
        inside = truth["ct"][truth["mask"] > 0].astype(float)
        assert figures[name]["synthetic_ct"]["mae"] == pytest.approx(abs(error))
        assert figures[name]["synthetic_ct"]["mean_error"] == pytest.approx(error)
        assert figures[name]["water"]["mae"] == pytest.approx(np.abs(inside).mean())
        assert figures[name]["water"]["dice_bone"] == 0
    _, content = read_tables(tmp_path / "out")
    summary = content["summary"]["synthetic_ct"]["mae"]
    assert summary["mean"] == pytest.approx(110 / 3, rel=1e-5)
    assert summary["median"] == 40
    assert summary["standard_deviation"] == pytest.approx(np.std([20, 40, 50], ddof=1), rel=1e-5)
    assert content["summary"]["synthetic_ct"]["mean_error"]["mean"] == 10
    heading, titles, *lines = capsys.readouterr().out.splitlines()
    assert heading == "Mean over 3 patients, inside the mask"
    assert [line.split()[0] for line in lines[:2]] == ["synthetic_ct", "water"]
    assert lines[0].split()[1] == "36.7"
    assert len({len(line) for line in (titles, *lines[:2])}) == 1 and len(titles) <= 110


def test_the_tables_agree_and_hold_what_the_metrics_say(dataset, predictions, tmp_path, without_pictures):
    evaluation(dataset, StoredSyntheticCt(predictions), tmp_path / "out", lookup_pairs=dataset).run()
    rows, content = read_tables(tmp_path / "out")
    assert [(row["case"], row["method"]) for row in rows] == [
        (case, method) for case in ERROR_HU for method in ("synthetic_ct", "water", "lookup")
    ]
    assert set(content["definitions"]) >= set(DEFINITIONS)
    for row in rows:
        figures = content["cases"][row["case"]][row["method"]]
        assert {name: float(row[name]) if row[name] else None for name in DEFINITIONS} == figures
    truth = patient(0)
    expected = synthetic_ct_metrics(truth["ct"] + np.int16(20), truth["ct"], truth["mask"])
    known = {name: value for name, value in expected.items() if not math.isnan(value)}
    stored = content["cases"]["anna"]["synthetic_ct"]
    assert {name: value for name, value in stored.items() if value is not None} == pytest.approx(known, rel=1e-5)


def test_figures_that_do_not_exist_are_left_empty(dataset, predictions, tmp_path, without_pictures):
    truth = patient(0)
    save_volume(predictions / "anna" / "synthetic_ct.nii.gz", truth["ct"], AFFINE)
    evaluation(dataset, StoredSyntheticCt(predictions), tmp_path / "out").run()
    rows, content = read_tables(tmp_path / "out")
    assert rows[0]["mae_air"] == "" and content["cases"]["anna"]["synthetic_ct"]["mae_air"] is None
    assert rows[0]["psnr_2025"] == "" and content["cases"]["anna"]["synthetic_ct"]["psnr_2025"] is None
    nothing = {"patients": 0, "mean": None, "standard_deviation": None, "median": None, "interval_95": None}
    assert content["summary"]["synthetic_ct"]["mae_air"] == nothing
    assert content["summary"]["synthetic_ct"]["psnr_2025"]["patients"] == 2


def test_the_interval_is_that_of_all_resamples_and_of_scipy():
    values = [20.0, 40.0, 50.0, 120.0]
    every_mean = [np.mean(drawn) for drawn in itertools.product(values, repeat=4)]
    exact = np.percentile(every_mean, [2.5, 97.5], method="inverted_cdf")
    assert bootstrap_interval(values, seed=0) == pytest.approx(exact)
    many = np.random.default_rng(3).gamma(4, 10, 25)
    theirs = scipy.stats.bootstrap((many,), np.mean, method="percentile", rng=1).confidence_interval
    assert bootstrap_interval(many, seed=0) == pytest.approx([theirs.low, theirs.high], abs=0.03 * many.std())


def test_one_patient_has_no_interval():
    rows = {"anna": {"water": dict.fromkeys(DEFINITIONS, 1.5)}}
    summary = summarise(rows)["water"]["mae"]
    assert (summary["mean"], summary["standard_deviation"], summary["interval_95"]) == (1.5, None, None)
    assert text_table(summarise(rows)).splitlines()[1].split()[:3] == ["water", "1.5", "-"]


def test_a_synthetic_ct_in_another_place_is_refused_and_left_out(
    dataset, predictions, tmp_path, without_pictures, capsys
):
    shifted = AFFINE.copy()
    shifted[1, 3] += 1.5
    save_volume(predictions / "bert" / "synthetic_ct.nii.gz", patient(1)["ct"], shifted)
    with pytest.raises(UserError, match=r"1 of 3 cases failed and the others are done: bert .*1\.5 mm apart"):
        evaluation(dataset, StoredSyntheticCt(predictions), tmp_path / "out").run()
    rows, content = read_tables(tmp_path / "out")
    assert {row["case"] for row in rows} == {"anna", "carl"} == set(content["cases"])
    assert "different grids" in content["failures"]["bert"]
    assert capsys.readouterr().out.startswith("Mean over 2 patients")
    failed = json.loads((tmp_path / "out" / "report" / "bert" / "case.json").read_text())
    assert failed["status"] == "failed"


def shift_ct(folder):
    moved = AFFINE.copy()
    moved[0, 3] += 2
    save_volume(folder / "ct.nii.gz", patient(0)["ct"], moved)


def empty_mask(folder):
    save_volume(folder / "mask.nii.gz", np.zeros(SHAPE, dtype=np.uint8), AFFINE)


def mask_of_another_grid(folder):
    save_volume(folder / "mask.nii.gz", np.ones((9, 9, 9), dtype=np.uint8), AFFINE)


def no_body(folder):
    (folder / "mask.nii.gz").unlink()
    save_volume(folder / "ct.nii.gz", np.random.default_rng(0).integers(-1010, -990, SHAPE), AFFINE)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (shift_ct, r"mr\.nii\.gz and .*ct\.nii\.gz lie on different grids.* 2 mm apart"),
        (empty_mask, r"mask\.nii\.gz is empty"),
        (mask_of_another_grid, r"mr\.nii\.gz and .*mask\.nii\.gz lie on different grids"),
        (no_body, r"ct\.nii\.gz shows no body"),
        (lambda folder: (folder / "ct.nii.gz").write_bytes(b"no image"), "truncated, damaged"),
    ],
)
def test_a_pair_that_cannot_be_compared_is_refused(own_dataset, tmp_path, predictions, spoil, sentence):
    spoil(own_dataset / "anna")
    one = own_dataset / "anna"
    with pytest.raises(InputError, match=sentence):
        evaluation(one, StoredSyntheticCt(predictions), tmp_path / "out").run()
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_predictions_are_named_and_no_table_is_left(dataset, tmp_path):
    with pytest.raises(InputError, match="nowhere is no folder"):
        StoredSyntheticCt(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none could be evaluated: anna .*synthetic_ct.nii.gz does not exist"):
        evaluation(dataset, StoredSyntheticCt(tmp_path / "empty"), tmp_path / "out").run()
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["made_from.json", "manifest.json", "report", "report.html"]


def test_without_a_mask_the_body_of_the_ct_is_judged(own_dataset, predictions, tmp_path, without_pictures):
    from medical_gans.transforms import body_mask

    (own_dataset / "anna" / "mask.nii.gz").unlink()
    figures = evaluation(own_dataset, StoredSyntheticCt(predictions), tmp_path / "out").run()
    ct = patient(0)["ct"]
    inside = ct[body_mask(ct, (2.0, 2.5, 3.0), "CT")]
    assert figures["anna"]["water"]["mae"] == pytest.approx(np.abs(inside.astype(float)).mean())
    _, content = read_tables(tmp_path / "out")
    assert content["masks"] == {"anna": "body of the CT", "bert": "given", "carl": "given"}


def test_a_stored_lookup_table_gives_the_figures_of_its_fit(dataset, predictions, tmp_path, without_pictures, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    source = StoredSyntheticCt(predictions)
    fitted = evaluation(dataset, source, first, lookup_pairs=dataset).run()
    assert fitted["anna"]["lookup"]["mae"] < 10 < fitted["anna"]["water"]["mae"]
    stored = evaluation(dataset, source, again, lookup_pairs=first / "lookup.json").run()
    assert all(stored[name]["lookup"]["mae"] == fitted[name]["lookup"]["mae"] for name in ERROR_HU)
    assert "lookup_pairs" not in capsys.readouterr().out
    assert "lookup" not in evaluation(dataset, source, again).run()["anna"]
    assert "There is no row for the lookup table: set lookup_pairs" in capsys.readouterr().out


def test_the_lookup_table_is_fitted_to_training_patients_only(own_dataset, tmp_path, caplog):
    from medical_gans.evaluation.lookup import LookupBaseline

    for split, names in {"training": ["anna", "bert"], "validation": ["carl"]}.items():
        (tmp_path / "split" / split).mkdir(parents=True)
        for name in names:
            (own_dataset / name).rename(tmp_path / "split" / split / name)
    of_all = LookupBaseline.from_source(tmp_path / "split").table.hounsfield
    of_training = LookupBaseline.from_source(tmp_path / "split" / "training").table.hounsfield
    np.testing.assert_array_equal(of_all, of_training)
    empty_mask(tmp_path / "split" / "training" / "bert")
    LookupBaseline.from_source(tmp_path / "split")
    assert "fitted without bert" in caplog.text


@pytest.mark.parametrize("content", ["[1", "[]", '{"hounsfield": [0]}', '{"table": 1}'])
def test_a_file_that_is_no_lookup_table_is_refused_before_any_case(dataset, predictions, tmp_path, content):
    table = tmp_path / "table.json"
    table.write_text(content)
    with pytest.raises(InputError, match="table"):
        evaluation(dataset, StoredSyntheticCt(predictions), tmp_path / "out", lookup_pairs=table).run()


def test_results_of_another_run_are_not_overwritten(dataset, predictions):
    Manifest("mr_to_ct", "inference", settings={}).write(predictions)
    with pytest.raises(OutputError, match="another run"):
        evaluation(dataset, StoredSyntheticCt(predictions), predictions).run()


def test_an_earlier_evaluation_is_replaced_with_pictures_and_all(dataset, predictions, tmp_path):
    out = tmp_path / "out"
    source = StoredSyntheticCt(predictions)
    evaluation(dataset / "anna", source, out).run()
    assert "anna" in (out / "report.html").read_text()
    assert {"overview.png", "contact_sheet.png", "histogram.png"} <= {
        path.name for path in (out / "report" / "anna").iterdir()
    }
    evaluation(dataset / "bert", source, out).run()
    page = (out / "report.html").read_text()
    assert "anna" not in page and "bert" in page and "water" in page
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["cases"]) == ["bert"]
    assert set(manifest["inputs"]) == {"mr.nii.gz", "ct.nii.gz", "mask.nii.gz", "synthetic_ct.nii.gz"}
    assert manifest["cases"]["bert"]["metrics"]["mae"] == 40
    assert any("lookup_pairs" in warning for warning in manifest["warnings"])


class Generators:
    """What `synthesis.load_generators` gives."""

    def __init__(self, folder):
        from medical_gans.networks import ResnetGenerator
        from medical_gans.weights import WeightsCard, load_weights, save_weights

        save_weights(folder / "model.pt", ResnetGenerator(width=2, blocks=1))
        network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 1}
        WeightsCard((2.0, 2.0, None), network_def=network_def).save(folder / "model.pt")
        self.files = [folder / "model.pt"]
        self.generators = [load_weights(ResnetGenerator(width=2, blocks=1), self.files[0])]
        self.spacing, self.plane, self.fingerprint = (2.0, 2.0, None), "coronal", None


def test_what_generators_make_is_judged_as_what_they_stored(dataset, tmp_path, without_pictures):
    from medical_gans.inference.synthesis import SliceSynthesis

    trained = Generators(tmp_path)
    synthesis = SliceSynthesis(trained.generators, trained.spacing, [trained.plane])
    for name in ERROR_HU:
        made = synthesis(read_volume(dataset / name / "mr.nii.gz"))
        (tmp_path / "stored" / name).mkdir(parents=True)
        save_volume(tmp_path / "stored" / name / "synthetic_ct.nii.gz", made.hounsfield, made.affine)
    translating = partial(SliceSynthesis, spacing=trained.spacing, planes=[trained.plane])
    source = synthetic_ct_source(None, lambda: trained, translating)
    now = evaluation(dataset, source, tmp_path / "now").run()
    stored = evaluation(dataset, StoredSyntheticCt(tmp_path / "stored"), tmp_path / "then").run()
    for name in ERROR_HU:
        assert now[name]["synthetic_ct"] == pytest.approx(stored[name]["synthetic_ct"], nan_ok=True)
    manifest = json.loads((tmp_path / "now" / "manifest.json").read_text())
    assert list(manifest["weights"]) == ["model.pt"]
    assert manifest["settings"]["spacing"] == [2.0, 2.0, None]


def test_weights_are_not_loaded_where_predictions_are_judged(predictions):
    def load():
        raise AssertionError("loaded")

    assert isinstance(synthetic_ct_source(predictions, load, None), StoredSyntheticCt)


def test_an_mr_unlike_those_of_training_is_reported(dataset, tmp_path):
    class Unlike:
        def compare(self, array, spacing, modality, *, strict):
            assert array.shape == SHAPE and spacing == pytest.approx((2.0, 2.5, 3.0))
            if strict:
                raise InputError("This is no thigh.")
            return ["This is no thigh."]

    from medical_gans.inference.synthesis import SliceSynthesis

    trained = Generators(tmp_path)
    trained.fingerprint = Unlike()
    one = dataset / "anna"
    evaluation(one, synthetic_ct_source(None, lambda: trained, SliceSynthesis), tmp_path / "out").run()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["cases"]["anna"]["warnings"] == ["This is no thigh."]
    strict = synthetic_ct_source(None, lambda: trained, SliceSynthesis, strict=True)
    with pytest.raises(InputError, match="no thigh"):
        evaluation(one, strict, tmp_path / "strict").run()


def run_config(**settings):
    from monai.bundle import ConfigWorkflow

    config = config_files.configs_dir() / "mr_to_ct_evaluate.yaml"
    workflow = ConfigWorkflow(
        str(config),
        meta_file=str(config.with_name("metadata.json")),
        logging_file=False,
        workflow_type="infer",
        **settings,
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    workflow.run()


def test_the_config_evaluates_a_network(dataset, tmp_path, without_pictures):
    Generators(tmp_path)
    run_config(
        dataset_dir=str(dataset),
        output_dir=str(tmp_path / "out"),
        weights=str(tmp_path / "model.pt"),
        lookup_pairs=str(dataset),
        device="cpu",
    )
    rows, content = read_tables(tmp_path / "out")
    assert len(rows) == 9 and set(content["summary"]) == {"synthetic_ct", "water", "lookup"}


def test_the_config_evaluates_what_inference_left(dataset, predictions, tmp_path, without_pictures):
    run_config(
        dataset_dir=str(dataset),
        output_dir=str(tmp_path / "out"),
        prediction_dir=str(predictions),
        device="cpu",
    )
    _, content = read_tables(tmp_path / "out")
    assert content["summary"]["synthetic_ct"]["mae"]["median"] == 40


@pytest.mark.slow
def test_processes_share_the_cases_and_leave_one_table(dataset, predictions, tmp_path, repository):
    alone, together = tmp_path / "alone", tmp_path / "together"
    evaluation(dataset, StoredSyntheticCt(predictions), alone).run()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = ["-m", "medical_gans", "mr_to_ct", "evaluate", "--device", "cpu", "--dataset_dir", str(dataset)]
    words += ["--prediction_dir", str(predictions), "--output_dir", str(together)]
    done = subprocess.run([*launcher, *words], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("synthetic_ct ") == 1
    for name in ("metrics.csv", "metrics.json"):
        assert (together / name).read_text() == (alone / name).read_text()
    assert list(json.loads((together / "manifest.json").read_text())["cases"]) == list(ERROR_HU)
