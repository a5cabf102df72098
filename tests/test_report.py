"""What a person reads after a run shows the numbers it was given, the right way round, and names nobody."""

import getpass
import hashlib
import itertools
import json
import platform
import re
import shutil
import time
import tracemalloc
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from medical_gans.errors import InputError, OutputError
from medical_gans.io.orientation import ras_view
from medical_gans.report import (
    Manifest,
    Place,
    case_records,
    input_hashes,
    loss_curves,
    training_sheet,
    write_case_report,
    write_failed_case,
    write_page,
)
from medical_gans.report.page import publishable, without_folders
from medical_gans.report.pictures import HISTOGRAM_EDGES, difference, hounsfield_shares, panels
from medical_gans.report.views import (
    AXIAL,
    BONE,
    CORONAL,
    SAGITTAL,
    SOFT_TISSUE,
    CaseVolumes,
    Window,
    radiological_slice,
)

PERMUTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
SPACING = np.array([1.0, 2.0, 3.0])


def body(shape: tuple[int, int, int] = (24, 30, 16)) -> np.ndarray:
    """HU of a limb with a bone off its middle, no two axes alike."""
    x, y, _ = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    hounsfield = np.where(x**2 + y**2 < 0.8, 40, -1000)
    hounsfield[(x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.05] = 900
    return hounsfield.astype(np.int16)


def stored(ras: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same image with axis `n` of the file along axis ``order[n]`` of space, and its affine."""
    array = ras.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[world]
        if sign < 0:
            affine[world, 3] = (ras.shape[world] - 1) * SPACING[world]
    return array, affine


@pytest.mark.parametrize(("level", "width"), [(40, 400), (500, 2000), (-600, 1500)])
def test_a_window_is_linear_between_its_ends(level: float, width: float) -> None:
    hounsfield = np.array([level - width, level - width / 2, level - width / 4, level, level + width / 2, 4000])
    np.testing.assert_allclose(Window(level, width)(hounsfield.astype(np.int16)), [0, 0, 0.25, 0.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize(("order", "signs"), PERMUTATIONS)
def test_right_left_anterior_posterior_superior_inferior_are_where_the_letters_say(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    ras = np.zeros((7, 9, 11), dtype=np.int16)
    ras[5, 7, 8] = 1  # to the right of, in front of and above the middle
    array, affine = stored(ras, order, signs)
    view = ras_view(array, affine)
    assert np.shares_memory(view, array)
    where = {
        "R": (1, False),
        "L": (1, True),
        "A": (0, False),
        "P": (0, True),
        "S": (0, False),
        "I": (0, True),
    }
    for plane, index in ((AXIAL, 8), (CORONAL, 7), (SAGITTAL, 5)):
        picture = radiological_slice(view, plane, index)
        row, column = (int(n[0]) for n in np.nonzero(picture))
        left, right, top, bottom = plane.letters
        sides = {left: column < picture.shape[1] / 2, right: column > picture.shape[1] / 2}
        sides |= {top: row < picture.shape[0] / 2, bottom: row > picture.shape[0] / 2}
        assert {letter for letter, true in sides.items() if true} <= {"R", "A", "S"}, plane.name
        assert sum(sides.values()) == 2
    assert set(where) == {letter for plane in (AXIAL, CORONAL, SAGITTAL) for letter in plane.letters}


@pytest.mark.parametrize(("order", "signs"), PERMUTATIONS[::5])
def test_pictures_do_not_depend_on_how_the_file_stores_its_axes(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    ras = body()
    straight = CaseVolumes.from_stored(ras, ras, np.diag([*SPACING, 1.0]))
    array, affine = stored(ras, order, signs)
    case = CaseVolumes.from_stored(array, array, affine)
    np.testing.assert_allclose(case.affine, straight.affine, atol=1e-9)
    assert case.middle() == straight.middle()
    for plane in (AXIAL, CORONAL, SAGITTAL):
        index = case.middle()[plane.axis]
        assert case.position(plane, index) == straight.position(plane, index) == index * SPACING[plane.axis]
        for mine, other in zip(panels(case), panels(straight), strict=True):
            np.testing.assert_array_equal(mine.draw(plane, index), other.draw(plane, index))


def test_an_oblique_volume_is_shown_by_its_nearest_axes() -> None:
    angle = np.deg2rad(30)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[:2, :2] = [[-np.cos(angle), -np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    view = ras_view(np.arange(24).reshape(2, 3, 4), affine)
    np.testing.assert_array_equal(view, np.arange(24).reshape(2, 3, 4)[::-1])


def test_slices_have_the_proportions_of_the_patient() -> None:
    case = CaseVolumes.from_stored(body(), body(), np.diag([*SPACING, 1.0]))
    assert case.slice_size(AXIAL) == (24, 60)
    assert case.slice_size(CORONAL) == (24, 48)
    assert case.slice_size(SAGITTAL) == (60, 48)


def test_the_picture_has_the_grey_of_the_window(tmp_path: Path) -> None:
    constant = np.full((20, 20, 20), 140, dtype=np.int16)
    write_case_report(tmp_path, "case", constant, constant, np.eye(4))
    picture = imread(tmp_path / "report" / "case" / "overview.png")
    columns = picture.shape[1] - 26
    grey = [picture[100, 26 + int(columns * (n + 0.3) / 3), 0] for n in range(3)]
    assert grey[1] == pytest.approx(SOFT_TISSUE(np.array(140)), abs=0.01)
    assert grey[2] == pytest.approx(BONE(np.array(140)), abs=0.01)


def test_the_difference_is_synthetic_minus_reference_inside_the_mask() -> None:
    rng = np.random.default_rng(0)
    synthetic, reference = rng.integers(-1000, 1000, (2, 6, 7, 8)).astype(np.int16)
    mask = rng.random((6, 7, 8)) > 0.5
    case = CaseVolumes.from_stored(synthetic, synthetic, np.eye(4), reference=reference, mask=mask)
    expected = np.where(mask, synthetic.astype(float) - reference, 0)[:, :, 3][::-1, ::-1].T
    np.testing.assert_array_equal(difference(case, AXIAL, 3), expected)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_histogram_counts_equal_numpy(dtype: type) -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 400, (20, 21, 22)).clip(-1024, 2024).astype(dtype)
    mask = rng.random(volume.shape) > 0.3
    expected = np.histogram(volume[mask], bins=HISTOGRAM_EDGES)[0]
    np.testing.assert_allclose(hounsfield_shares(volume, mask), expected / expected.sum(), atol=1e-12)


class Links(HTMLParser):
    """Everything that a page refers to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.add(tag)
        self.ids.add(values.get("id") or "")
        if tag == "img":
            self.images.append(values["src"] or "")
        if "href" in values:
            self.links.append(values["href"] or "")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three cases: one good with a reference, one with a warning, one that failed."""
    folder = tmp_path_factory.mktemp("run")
    hounsfield, affine = body(), np.diag([*SPACING, 1.0])
    deviation = np.full(hounsfield.shape, 12.0, dtype=np.float32)
    write_case_report(
        folder,
        "leg_1",
        hounsfield + 1000,
        hounsfield,
        affine,
        reference=hounsfield - 20,
        mask=hounsfield > -500,
        standard_deviation=deviation,
        metrics={"mae": 20.0, "psnr_2025": float("inf"), "dice_bone": 0.75},
        seconds={"network": 1.5, "reading": 0.25},
        inputs={"leg_1/mr.nii.gz": "0" * 64},
    )
    write_case_report(
        folder,
        "leg #2 <&> 50%",
        hounsfield,
        hounsfield,
        affine,
        warnings=["<b>odd</b> & strange"],
        metrics={"mae": 30.0},
    )
    write_failed_case(folder, "leg_3", f"{Path.home()}/secret/leg_3.nii is cut short. Copy it again.")
    write_page(folder, "Synthetic CT", settings={"batch_size": 4, "output_dir": "/mnt/secret/out"})
    return folder


def test_the_page_needs_nothing_but_its_folder(run_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(run_folder, moved)
    text = (moved / "report.html").read_text()
    page = Links(text)
    assert not re.search(r"https?:|//|@import|url\(", text.replace("<!doctype html>", ""))
    assert not page.tags & {"script", "link", "iframe", "object"}
    assert len(page.images) == 2 * 4
    for link in {*page.images, *page.links}:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (moved / unquote(urlsplit(link).path)).is_file(), link


def test_the_page_shows_status_figures_warnings_and_their_mean(run_folder: Path) -> None:
    text = (run_folder / "report.html").read_text()
    for expected in (
        "3 cases, 1 failed",
        "25 &plusmn; 7.1",
        "MAE (HU)",
        "leg #2 &lt;&amp;&gt; 50%",
        "&lt;b&gt;odd&lt;/b&gt; &amp; strange",
        "leg_3.nii is cut short. Copy it again.",
        "24 x 30 x 16 voxels of 1 x 2 x 3 mm",
        "research use only",
    ):
        assert expected in text
    assert not [raw for raw in ("<b>", "<&>", "secret") if raw in text]


def test_a_case_done_later_joins_the_page(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder, tmp_path / "run")
    write_case_report(tmp_path / "run", "leg_3", body(), body(), np.eye(4))
    text = write_page(tmp_path / "run", "Synthetic CT").read_text()
    assert "3 cases, 0 failed" in text and "cut short" not in text
    assert [record["status"] for record in case_records(tmp_path / "run")] == ["warning", "done", "done"]


def test_the_report_leads_to_the_volumes_and_to_places_in_them(tmp_path: Path) -> None:
    places = [Place("void & metal", (-12.25, 3.0, 40.0))]
    write_case_report(tmp_path, "leg #1", body(), body(), np.eye(4), places=places)
    write_case_report(tmp_path, "leg #2", body(), body(), np.eye(4), places=places, viewer=False)
    page = Links(write_page(tmp_path, "Synthetic CT").read_text())
    found = [urlsplit(link) for link in page.links if "viewer.html" in link]
    assert [unquote(link.path) for link in found] == ["report/leg #1/viewer.html"] * 2
    assert [link.fragment for link in found] == ["", "mm=-12.2,3.0,40.0"]
    assert (tmp_path / "report" / "leg #1" / "viewer.html").is_file()
    assert not (tmp_path / "report" / "leg #2" / "viewer.html").exists()


def test_an_empty_run_has_a_page(tmp_path: Path) -> None:
    assert "0 cases, 0 failed" in write_page(tmp_path, "Nothing").read_text()


def test_arrays_on_different_grids_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reference has shape \(3, 3, 3\) but the MR has \(24, 30, 16\)"):
        write_case_report(tmp_path, "a", body(), body(), np.eye(4), reference=np.zeros((3, 3, 3)))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("a file in the way")
    with pytest.raises(OutputError):
        write_case_report(tmp_path, "a", body(), body(), np.eye(4))


@pytest.mark.parametrize("shape", [(24, 30, 1), (1, 30, 16), (3, 2, 200)])
def test_thin_volumes_can_be_drawn(shape: tuple[int, int, int], tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)
    place = write_case_report(tmp_path, "thin", volume, volume, np.diag([*SPACING, 1.0]))
    assert len(list(place.glob("*.png"))) == 4


def test_memory_does_not_grow_with_the_volume(tmp_path: Path) -> None:
    shape = (448, 448, 200)
    mr, synthetic, reference = (
        np.memmap(tmp_path / f"{name}.raw", dtype=np.int16, mode="w+", shape=shape) for name in ("mr", "sct", "ct")
    )
    for array in (mr, synthetic, reference):
        array[100:300, 100:300] = 300
    tracemalloc.start()
    write_case_report(tmp_path, "big", mr, synthetic, np.diag([-0.5, -0.5, 1.0, 1.0]), reference=reference)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_float_copy = np.prod(shape) * 4
    assert peak < one_float_copy / 2


def test_a_manifest_holds_what_is_needed_to_repeat_the_run(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    weights = tmp_path / "mr_to_ct_head.pt"
    weights.write_bytes(b"weights")
    settings = {
        "device": torch.device("cpu"),
        "spacing": (1.0, None),
        "steps": np.int64(3),
        "bad": float("nan"),
    }
    manifest = Manifest("mr_to_ct", "inference", settings=settings, seed=7)
    manifest.add_weights(weights)
    manifest.add_warning("Only one GPU.")
    for _ in range(2):
        with manifest.timed("network"):
            time.sleep(0.02)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    facts = json.loads(manifest.write(folder).read_text(), parse_constant=refuse)
    expected = {"note", "workflow", "stage", "started", "versions", "platform", "settings", "seed", "weights"}
    expected |= {"inputs", "warnings", "cases", "seconds", "peak_memory_mib"}
    assert set(facts) == expected
    assert {"python", "torch", "monai", "numpy", "medical_gans"} <= set(facts["versions"])
    assert facts["settings"] == {"device": "cpu", "spacing": [1.0, None], "steps": 3, "bad": None}
    assert facts["weights"] == {"mr_to_ct_head.pt": hashlib.sha256(b"weights").hexdigest()}
    assert facts["inputs"] == {"leg_1/mr.nii.gz": "0" * 64}
    assert facts["warnings"] == ["Only one GPU."] and facts["seed"] == 7
    assert {name: case["status"] for name, case in facts["cases"].items()} == {
        "leg_1": "done",
        "leg #2 <&> 50%": "warning",
        "leg_3": "failed",
    }
    assert 0.04 <= facts["seconds"]["network"] <= facts["seconds"]["total"]
    assert 10 < facts["peak_memory_mib"]["process"] < 100_000
    assert "research use only" in facts["note"]


def test_inputs_are_named_inside_the_data_set_and_hashed_by_content(tmp_path: Path) -> None:
    series = tmp_path / "data" / "case" / "series"
    series.mkdir(parents=True)
    for name in ("1.dcm", "2.dcm"):
        (series / name).write_bytes(name.encode())
    single = tmp_path / "data" / "case" / "mr.nii"
    single.write_bytes(b"mr")
    hashes = input_hashes(single, series, None, dataset_dir=tmp_path / "data")
    assert set(hashes) == {"case/mr.nii", "case/series"}
    assert hashes["case/mr.nii"] == hashlib.sha256(b"mr").hexdigest()
    assert set(input_hashes(single, dataset_dir=single)) == {"mr.nii"}
    (series / "2.dcm").write_bytes(b"changed")
    assert input_hashes(series, dataset_dir=tmp_path / "data")["case/series"] != hashes["case/series"]


def test_no_person_account_or_machine_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = ("jdoe", "plantedhost", "secretproject")
    monkeypatch.setattr(platform, "node", lambda: "plantedhost")
    monkeypatch.setattr(getpass, "getuser", lambda: "jdoe")
    monkeypatch.setenv("HOME", "/home/jdoe")
    monkeypatch.setenv("HOSTNAME", "plantedhost")
    folder = tmp_path / "out"
    settings = {
        "dataset_dir": Path("/mnt/secretproject/cohort"),
        "output_dir": "/home/jdoe/out",
        "ckpts": ["~jdoe/m.pt"],
    }
    write_case_report(folder, "case_1", body(), body(), np.eye(4), warnings=["/mnt/secretproject/x/mr.nii is odd."])
    write_failed_case(folder, "case_2", "'/home/jdoe/data/ct.nii' and /Users/jdoe/mr.nii differ.")
    manifest = Manifest("mr_to_ct", "inference", settings=settings)
    manifest.add_warning("/home/jdoe has no space left.")
    manifest.write(folder)
    write_page(folder, "Run", settings=settings)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert len(written) == 5 + 2 + 2 + 2
    for path in written:
        content = path.read_bytes()
        assert not [name for name in planted if name.encode() in content], path
    assert json.loads((folder / "manifest.json").read_text())["settings"]["dataset_dir"] == "cohort"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/data/a/mr.nii and /data/b/ct.nii differ", "mr.nii and ct.nii differ"),
        ("'/data/a b/mr.nii' is cut", "'a b/mr.nii' is cut"),
        (r"C:\Users\jdoe\mr.nii is cut", "mr.nii is cut"),
        ("case/mr.nii has 2 mm/voxel and/or 3 / 4", "case/mr.nii has 2 mm/voxel and/or 3 / 4"),
        ("/home/jdoe", "~"),
    ],
)
def test_folders_are_cut_from_sentences(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_publishable_values_are_strict_json() -> None:
    value = {"a": (np.float32(0.5), np.int16(3), None, True, float("inf")), Path("/x/y"): {1}}
    assert json.loads(json.dumps(publishable(value), allow_nan=False)) == {
        "a": [0.5, 3, None, True, None],
        "y": [1],
    }


@pytest.mark.parametrize("shape", [(2, 1, 12, 20), (2, 3, 12, 20), (2, 1, 12, 20, 5)])
def test_a_training_sheet_shows_each_image_upright(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = torch.full(shape, -1.0)
    image[:, :, 8:, 14:] = 1.0  # right and anterior, so left and top of the picture
    images = {"cycle_ct": -image, "mr": image}
    picture = imread(training_sheet(images, tmp_path / "pictures" / "sheet.png", tile=100))
    assert picture.shape[:2] == (26 + 2 * 104, 2 * 104)
    first, second = picture[26:126, 2:102, 0], picture[26:126, 106:206, 0]
    assert first[10, 25] > 0.95 and first[90, 75] < 0.05
    assert second[10, 25] < 0.05 and second[90, 75] > 0.95


def test_loss_curves_draw_a_panel_for_each_figure(tmp_path: Path) -> None:
    log = tmp_path / "losses.csv"
    rows = [f"{epoch},{name},{1 / epoch}" for epoch in range(1, 21) for name in ("cycle_mr", "mae", "d", "e", "f")]
    log.write_text("\n".join(["epoch,name,value", *rows, "1,rare,nan"]))
    picture = imread(loss_curves(log, tmp_path / "losses.png"))
    assert picture.shape[:2] == (2 * 190, 4 * 300)
    blue = (picture[..., 2] > picture[..., 0] + 0.2).reshape(2, 190, 4, 300).sum(axis=(1, 3))
    assert (blue[0] > 100).all() and blue[1, 0] > 100


def test_loss_curves_of_an_empty_log_are_an_empty_page(tmp_path: Path) -> None:
    log = tmp_path / "losses.csv"
    log.write_text("epoch,name,value\n")
    assert loss_curves(log, tmp_path / "losses.png").is_file()
