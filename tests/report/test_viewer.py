"""The page of a case in a real browser: what it draws and says at a voxel is what the file holds there."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from browser import Browser, missing_browser

from medical_gans.errors import InputError
from medical_gans.io import read_volume, save_volume
from medical_gans.report.viewer import GREY, MAP, Place, ViewedImage, _flags, write_viewer
from medical_gans.report.views import BONE, SOFT_TISSUE
from medical_gans.report.voxels import pack_flags

SHAPE = (21, 26, 17)
SPACING = np.array([1.5, 1.0, 2.5])
ORDERS = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
needs_browser = pytest.mark.skipif(missing_browser() is not None, reason=str(missing_browser()))


def turned(degrees: float) -> np.ndarray:
    """A turn about an axis between all three of the patient's."""
    axis = np.array([1.0, -2.0, 0.5]) / np.linalg.norm([1.0, -2.0, 0.5])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def grid(order: tuple[int, ...], signs: tuple[int, ...], degrees: float = 0.0) -> np.ndarray:
    """Affine of a file whose axis n runs along axis ``order[n]`` of the patient, forwards or backwards."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SPACING[axis]
    affine[:3, :3] = turned(degrees) @ affine[:3, :3]
    affine[:3, 3] = [-31.0, 12.5, 140.25]
    return affine


def volumes() -> dict[str, np.ndarray]:
    """No two voxels alike, so that a wrong one is found."""
    rng = np.random.default_rng(4)
    ct = rng.permutation(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16) - 2000
    return {"mr": rng.integers(0, 4000, SHAPE).astype(np.int16), "ct": ct, "reference": (ct // 2).astype(np.int16)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    one = Browser(tmp_path_factory.mktemp("browser") / "chromium")
    yield one
    one.close()


def opened(browser: Browser, path: Path, place: str = "") -> Browser:
    browser.open("about:blank")
    browser.open(path.as_uri() + place)
    for _ in range(400):
        if browser.run("return document.documentElement.dataset.loaded !== undefined"):
            return browser
        assert not browser.run("return document.documentElement.dataset.failed"), browser.text("#state")
        time.sleep(0.05)
    raise AssertionError(browser.text("body"))


def said(browser: Browser) -> dict[str, str]:
    """What the page shows of the voxel at the cross, by name."""
    terms = browser.run(
        "const entries = [...document.querySelectorAll('#readout dl div')];"
        "return entries.map(entry => [entry.children[0].innerText, entry.children[1].innerText])"
    )
    return {name: text.replace("\u2212", "-") for name, text in terms}


def clicked(browser: Browser, row: str, plane: str, across: float, down: float) -> None:
    """Click in a picture at a share of its width and height."""
    browser.run(
        "const c = document.querySelector(`canvas[data-row=${arguments[0]}][data-plane=${arguments[1]}]`);"
        "c.scrollIntoView({block: 'center'}); const b = c.getBoundingClientRect();"
        "const x = b.left + arguments[2] * b.width, y = b.top + arguments[3] * b.height;"
        "c.dispatchEvent(new MouseEvent('click', {clientX: x, clientY: y, bubbles: true}));",
        row,
        plane,
        across,
        down,
    )
    browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")


def drawn_at(browser: Browser, row: str, plane: str, across: float, down: float) -> list[int]:
    """Red, green and blue of a picture at a share of its width and height."""
    return browser.run(
        "const c = document.querySelector(`canvas[data-row=${arguments[0]}][data-plane=${arguments[1]}]`);"
        "const x = Math.floor(arguments[2] * c.width), y = Math.floor(arguments[3] * c.height);"
        "return [...c.getContext('2d').getImageData(x, y, 1, 1).data].slice(0, 3)",
        row,
        plane,
        across,
        down,
    )


def drawn(browser: Browser, row: str, plane: str) -> list[int]:
    """Red, green and blue of a picture in the middle of the voxel at the cross."""
    share = browser.run(
        "const plane = PLANES.find(plane => plane.name === arguments[0]);"
        "return [plane.across, plane.up].map(axis => 1 - (state.at[axis] + 0.5) / SHAPE[axis])",
        plane,
    )
    return drawn_at(browser, row, plane, *share)


def complaints(browser: Browser) -> list[str]:
    """What the page wrote to the console, but for advice on how tests read pictures."""
    return [line for line in browser.complaints() if "willReadFrequently" not in line]


def in_patient(text: str) -> np.ndarray:
    """RAS mm from what the page says."""
    found = re.fullmatch(r"(right|left) ([\d.]+), (anterior|posterior) ([\d.]+), (superior|inferior) ([\d.]+) mm", text)
    assert found, text
    signs = [1 if found[n] in ("right", "anterior", "superior") else -1 for n in (1, 3, 5)]
    return np.array([sign * float(found[n]) for sign, n in zip(signs, (2, 4, 6), strict=True)])


GRIDS = [(order, signs, 0.0) for order, signs in ORDERS[::7]]
GRIDS += [(order, signs, 24.0) for order, signs in ORDERS[3::16]]  # oblique
CLICKS = [("axial", 0.13, 0.8), ("coronal", 0.9, 0.21), ("sagittal", 0.34, 0.47), ("axial", 0.7, 0.1)]


@needs_browser
@pytest.mark.parametrize(("order", "signs", "degrees"), GRIDS)
def test_what_is_drawn_and_said_at_a_voxel_is_what_the_file_holds(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float, browser: Browser, tmp_path: Path
) -> None:
    arrays, affine = volumes(), grid(order, signs, degrees)
    mask = arrays["mr"] > 2000
    save_volume(tmp_path / "ct.nii.gz", arrays["ct"], affine)
    file = nibabel.load(tmp_path / "ct.nii.gz")  # read back by another library than ours
    stored, inverse = np.asarray(file.dataobj), np.linalg.inv(file.affine)
    images = [ViewedImage("MR", arrays["mr"], GREY, ""), ViewedImage("synthetic CT", arrays["ct"])]
    images.append(ViewedImage("reference CT", arrays["reference"]))
    write_viewer(tmp_path / "viewer.html", "case", images, affine, differences=[(1, 2)], structures=[("leg", mask)])
    opened(browser, tmp_path / "viewer.html")
    browser.press("o")  # lines of an outline run between voxels, and here around each of them
    seen = set()
    for plane, across, down in CLICKS:
        clicked(browser, "image1", plane, across, down)
        facts = said(browser)
        voxel = tuple(int(index) for index in facts["voxel of the file"].split(", "))
        seen.add(voxel)
        index = inverse @ [*in_patient(facts["position"]), 1]
        np.testing.assert_allclose(index[:3], voxel, atol=0.1 / SPACING.min())
        assert facts["synthetic CT"] == f"{stored[voxel]} HU"
        assert facts["MR"] == str(arrays["mr"][voxel])
        assert facts["synthetic CT minus reference CT"] == f"{int(stored[voxel]) - arrays['reference'][voxel]} HU"
        assert facts["inside"] == ("leg" if mask[voxel] else "none")
        grey = [255 * float(SOFT_TISSUE(np.array(stored[voxel])))] * 3
        np.testing.assert_allclose(drawn_at(browser, "image1", plane, across, down), grey, atol=1)
        for picture in ("axial", "coronal", "sagittal"):
            np.testing.assert_allclose(drawn(browser, "image1", picture), grey, atol=1)
    assert len(seen) == 4
    assert not complaints(browser)


@needs_browser
@pytest.mark.parametrize(("order", "signs", "degrees"), GRIDS[::3])
def test_the_letters_stand_where_the_patient_is(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float, browser: Browser, tmp_path: Path
) -> None:
    images = [ViewedImage("synthetic CT", volumes()["ct"])]
    write_viewer(tmp_path / "viewer.html", "case", images, grid(order, signs, degrees))
    opened(browser, tmp_path / "viewer.html")
    # further left in an axial or coronal picture is the patient's right, further up is the front or the head
    for plane, axis_across, axis_down in (("axial", 0, 1), ("coronal", 0, 2), ("sagittal", 1, 2)):
        places = []
        for across, down in ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9)):
            clicked(browser, "image0", plane, across, down)
            places.append(in_patient(said(browser)["position"]))
        corner, right_of_it, below_it = places
        assert corner[axis_across] > right_of_it[axis_across]
        assert corner[axis_down] > below_it[axis_down]


@needs_browser
def test_windows_places_outlines_keys_and_fading_act(browser: Browser, tmp_path: Path) -> None:
    arrays, affine = volumes(), grid((0, 1, 2), (1, 1, 1))
    deviation = np.linspace(0, 0.25, np.prod(SHAPE)).reshape(SHAPE)
    lesion = np.zeros(SHAPE, dtype=bool)
    lesion[4:8, 5:9, 6:9] = True
    position = tuple(float(value) for value in (affine @ [5, 7, 8, 1])[:3])
    images = [ViewedImage("MR", arrays["mr"], GREY, ""), ViewedImage("synthetic CT", arrays["ct"])]
    images.append(ViewedImage("spread", deviation, MAP))
    write_viewer(
        tmp_path / "viewer.html",
        "case <b>&",
        images,
        affine,
        structures=[("lesion", lesion)],
        places=[Place("void", position, "Check </script> is red.")],
        warnings=["Check </script> is red.", "Another."],
    )
    opened(browser, tmp_path / "viewer.html")
    assert browser.text("h1") == "case <b>&"
    assert "Check </script> is red." in browser.text("#places") and "Another." in browser.text("#places")
    browser.click("#places button")
    facts = said(browser)
    assert facts["voxel of the file"] == "5, 7, 8" and facts["inside"] == "lesion"
    assert float(facts["spread"].removesuffix(" HU")) == pytest.approx(deviation[5, 7, 8], abs=1e-5)
    assert browser.waits_for(f"synthetic CT {arrays['ct'][5, 7, 8]} HU".replace("-", "\u2212"), "#spoken")
    value = np.array(arrays["ct"][5, 7, 8])
    browser.press("2")
    time.sleep(0.2)
    np.testing.assert_allclose(drawn(browser, "image1", "axial"), [255 * float(BONE(value))] * 3, atol=1)
    browser.run("setWindow('hounsfield', arguments[0], 1000)", int(value) - 250)
    browser.run("setWindow('image0', arguments[0], 100)", int(arrays["mr"][5, 7, 8]))
    browser.press("f")
    time.sleep(0.2)
    np.testing.assert_allclose(drawn(browser, "faded", "coronal"), [(127.5 + 191.25) / 2] * 3, atol=1)
    borders = "return borders(0, PLANES[0], state.at).length"
    assert browser.run(borders) == 2 * (4 + 4)
    browser.run("document.querySelector('canvas[data-row=image1][data-plane=axial]').focus()")
    browser.press("right")
    assert said(browser)["voxel of the file"] == "4, 7, 8"  # to the picture's right is to the patient's left
    browser.wheel("canvas[data-row=image1][data-plane=axial]", -100)
    time.sleep(0.2)
    assert said(browser)["voxel of the file"] == "4, 7, 9"
    assert browser.run(borders) == 0
    assert browser.run("return document.querySelectorAll('[role=application]:not([aria-label])').length") == 0
    assert not complaints(browser)


@needs_browser
def test_the_address_leads_to_a_place_and_a_phone_shows_one_plane(browser: Browser, tmp_path: Path) -> None:
    affine = grid((0, 1, 2), (1, 1, 1))
    write_viewer(tmp_path / "viewer.html", "case", [ViewedImage("synthetic CT", volumes()["ct"])], affine)
    x, y, z = (affine @ [3, 4, 5, 1])[:3]
    opened(browser, tmp_path / "viewer.html", f"#mm={x:.1f},{y:.1f},{z:.1f}")
    assert said(browser)["voxel of the file"] == "3, 4, 5"
    browser.devtools("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=2, mobile=True)
    try:
        opened(browser, tmp_path / "viewer.html")
        assert browser.is_shown("canvas[data-plane=axial]") and not browser.is_shown("canvas[data-plane=coronal]")
        wide = "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 390)"
        assert browser.run(wide + ".map(e => e.id || e.outerHTML.slice(0, 80))") == []
    finally:
        browser.devtools("Emulation.clearDeviceMetricsOverride")


@needs_browser
def test_a_page_that_would_be_too_large_shows_means_and_says_so(browser: Browser, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ct = rng.integers(-1000, 1000, (64, 62, 30)).astype(np.int16)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    path = write_viewer(tmp_path / "viewer.html", "case", [ViewedImage("synthetic CT", ct)], affine, largest=150_000)
    assert path.stat().st_size < 150_000
    opened(browser, path)
    assert "each voxel shown is the mean of 2 x 2 x 2 voxels" in browser.text("#about")
    clicked(browser, "image0", "axial", 0.3, 0.3)
    facts = said(browser)
    x, y, z = (2 * (int(index) // 2) for index in facts["voxel of the file"].split(", "))
    assert facts["synthetic CT"] == f"{round(ct[x : x + 2, y : y + 2, z : z + 2].mean())} HU"
    np.testing.assert_allclose(in_patient(facts["position"]), [x + 0.5, y + 0.5, z + 0.5])


def test_the_page_asks_the_network_for_nothing(tmp_path: Path) -> None:
    path = write_viewer(tmp_path / "viewer.html", "case", [ViewedImage("synthetic CT", volumes()["ct"])], np.eye(4))
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|src=|url\(", text)
    assert "default-src 'none'" in text


def test_the_page_names_no_folder(tmp_path: Path) -> None:
    path = write_viewer(
        tmp_path / "viewer.html",
        "case",
        [ViewedImage("synthetic CT", volumes()["ct"])],
        np.eye(4),
        warnings=["/mnt/secret/mr.nii is odd."],
    )
    content = re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert content and json.loads(content[1])["warnings"] == ["mr.nii is odd."]


def test_arrays_on_different_grids_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = [ViewedImage("MR", np.zeros((3, 4, 5))), ViewedImage("synthetic CT", np.zeros((3, 4, 6)))]
    with pytest.raises(InputError, match=r"synthetic CT has shape \(3, 4, 6\)"):
        write_viewer(tmp_path / "viewer.html", "case", images, np.eye(4))
    assert not list(tmp_path.iterdir())


def test_more_structures_than_the_page_can_hold_are_counted(tmp_path: Path) -> None:
    masks = ((f"s{number}", np.ones((3, 4, 5), dtype=bool)) for number in range(35))
    images = [ViewedImage("synthetic CT", np.zeros((3, 4, 5), dtype=np.int16))]
    path = write_viewer(tmp_path / "viewer.html", "case", images, np.eye(4), structures=masks)
    content = json.loads(re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"))[1])  # type: ignore[index]
    assert len(content["structures"]) == 32 and content["left_out"] == 3


def test_each_structure_keeps_its_bit_however_many_there_are() -> None:
    masks = [np.random.default_rng(number).random((3, 4, 5)) > 0.5 for number in range(27)]
    names, flags, left_out = _flags(((f"s{number}", mask) for number, mask in enumerate(masks)), (3, 4, 5))
    assert (len(names), len(flags), left_out) == (27, 2, 0)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(flags[number // 16] >> (number % 16) & 1, mask)
    few = _flags(((f"s{number}", mask) for number, mask in enumerate(masks[:8])), (3, 4, 5))[1]
    assert [flag.itemsize for flag in few] == [1]
    assert pack_flags(few[0]) == pack_flags(few[0].astype(np.uint16))


def test_a_file_read_by_us_has_the_voxels_of_the_page(tmp_path: Path) -> None:
    save_volume(tmp_path / "ct.nii.gz", volumes()["ct"], grid((2, 0, 1), (1, -1, 1), 24.0))
    volume = read_volume(tmp_path / "ct.nii.gz")
    np.testing.assert_array_equal(volume.array, np.asarray(nibabel.load(tmp_path / "ct.nii.gz").dataobj))
