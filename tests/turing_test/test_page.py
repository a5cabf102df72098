"""The page in a real browser: opened from a file, answered by keyboard and mouse, resumed, saved, analysed."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, missing_browser
from turing_test.studies import answers_file, write_study

from medical_gans.studies.turing_test import TuringAnalysis
from medical_gans.studies.turing_test.answers import checksum, read_answers, read_key
from medical_gans.studies.turing_test.page import images_of_page

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=str(missing_browser()))


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


class Desk:
    """A reader before the page of a new study."""

    def __init__(self, browser: Browser, folder: Path, **settings) -> None:
        self.browser, self.folder = browser, folder
        self.key = write_study(folder, **{"number": 2, "seed": hash(str(folder)) % 10**6, **settings})
        self.open()

    def open(self) -> None:
        self.browser.open((self.folder / "study.html").as_uri())

    def begin(self, reader: str = "AB", years: int = 7) -> None:
        self.browser.type("#reader", reader)
        self.browser.type("#years", str(years))
        self.browser.click("#register button")

    def save(self, reader: str = "AB") -> Path:
        name = f"answers_{reader}_{self.key['study']}.json"
        (self.browser.downloads / name).unlink(missing_ok=True)
        self.browser.click("#save")
        return self.browser.downloaded(name)

    def forget(self) -> None:
        """Another computer."""
        blank = self.folder.parent / "blank.html"
        blank.touch()
        self.browser.open(blank.as_uri())
        self.browser.run("localStorage.clear()")
        self.open()

    def chosen(self) -> list[str]:
        return self.browser.run(
            "return [...document.querySelectorAll('[aria-pressed=true]')].map((b) => Object.values(b.dataset)[0])"
        )

    def position(self) -> str:
        return self.browser.text("#position")


@pytest.fixture
def desk(browser, tmp_path) -> Desk:
    return Desk(browser, tmp_path / "study")


def answers(file: Path) -> list[dict]:
    return json.loads(file.read_text())["content"]["answers"]


def test_answers_by_keyboard_and_mouse_survive_a_reload_and_can_be_analysed(desk, browser, tmp_path):
    desk.begin()
    browser.press("r5")
    browser.click("[data-judgement=generated]")
    browser.click("[data-confidence='2']")
    assert desk.position() == "Image 3 of 4"
    browser.reload()
    assert browser.text("#kept button") == "AB: 2 of 4"
    browser.click("#kept button")
    assert desk.position() == "Image 3 of 4" and browser.text("#answered") == "2 answered"
    browser.press("g4r1")
    assert browser.text("#rest h1") == "All images answered"
    file = desk.save()
    assert [(one["judgement"], one["confidence"]) for one in answers(file)] == [
        ("real", 5),
        ("generated", 2),
        ("generated", 4),
        ("real", 1),
    ]
    reading = read_answers([file], read_key(desk.folder))[0]
    np.testing.assert_array_equal(reading.rating, [5, -2, -4, 1])
    assert (reading.reader, reading.years_of_experience) == ("AB", 7)
    TuringAnalysis(file, desk.folder, tmp_path / "analysis").run()
    assert (tmp_path / "analysis" / "report.html").is_file()
    assert browser.complaints() == []
    assert browser.run("return performance.getEntriesByType('resource').length") == 0, "nothing was fetched"


def test_pythons_checksum_is_the_pages(desk, browser):
    desk.begin("J\u00f8rgen \u00c5 \u6f22")
    browser.press("r3p")
    file = desk.save("J\u00f8rgen_\u00c5_\u6f22")
    data = json.loads(file.read_text(encoding="utf-8"))
    assert data["content"]["reader"] == "J\u00f8rgen \u00c5 \u6f22"
    assert data["checksum"] == checksum(data["content"])


def test_arrows_go_back_and_forward_and_answers_can_be_changed(desk, browser):
    desk.begin()
    browser.press("r5g1")
    browser.press("left")
    browser.press("left")
    assert desk.position() == "Image 1 of 4" and desk.chosen() == ["real", "5"]
    browser.press("g")
    assert desk.position() == "Image 1 of 4", "a changed answer stays on the screen"
    browser.press("right")
    assert desk.position() == "Image 2 of 4" and desk.chosen() == ["generated", "1"]
    browser.press("p")
    assert [one["judgement"] for one in answers(desk.save())] == ["generated", "generated"]


def test_undo_takes_back_answers_one_by_one(desk, browser):
    desk.begin()
    browser.press("r5g")
    browser.press("z")
    assert desk.position() == "Image 2 of 4" and desk.chosen() == []
    browser.press("z")
    assert desk.position() == "Image 1 of 4" and desk.chosen() == ["real"]
    browser.click("#undo")
    assert desk.chosen() == []
    assert browser.run("return document.querySelector('#undo').disabled")


def test_confidence_counts_only_after_a_judgement(desk, browser):
    """Or a key pressed twice would answer the next image."""
    desk.begin()
    browser.press("r33")
    assert desk.position() == "Image 2 of 4" and desk.chosen() == []
    assert browser.run("return [...document.querySelectorAll('[data-confidence]')].every((b) => b.disabled)")


def test_a_key_held_down_counts_once(desk, browser):
    desk.begin()
    browser.press("r")
    for repeats in (False, True, True):
        browser.devtools("Input.dispatchKeyEvent", type="keyDown", key="4", code="Digit4", autoRepeat=repeats)
    assert desk.position() == "Image 2 of 4"
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", key="g", code="KeyG", autoRepeat=True)
    assert desk.chosen() == []


def test_keys_work_on_other_keyboards(desk, browser):
    desk.begin()
    for key, code in (("\u043a", "KeyR"), ("'", "Digit4")):  # Cyrillic; French, where digits need Shift
        browser.devtools("Input.dispatchKeyEvent", type="keyDown", key=key, code=code)
    assert desk.position() == "Image 2 of 4"
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", key="y", code="KeyZ")  # German: no undo
    assert desk.position() == "Image 2 of 4"


def test_skipped_images_are_asked_for_at_the_end(desk, browser):
    desk.begin()
    browser.press("right")
    browser.press("r1r1r1")
    assert browser.text("#rest h1") == "End of the images"
    assert "3 of 4 images are answered" in browser.text("#summary")
    browser.click("#continue")
    assert desk.position() == "Image 1 of 4"
    browser.press("g2")
    assert browser.text("#rest h1") == "All images answered"


def test_the_class_is_asked_where_the_study_is_by_class(browser, tmp_path):
    desk = Desk(browser, tmp_path / "study", ask_malignancy=True)
    desk.begin()
    browser.press("r4")
    assert desk.position() == "Image 1 of 4"
    browser.press("m")
    assert desk.position() == "Image 2 of 4"
    browser.press("g1")
    browser.click("[data-malignancy=benign]")
    browser.press("p")
    assert [one["malignancy"] for one in answers(desk.save())] == ["malignant", "benign"]


def test_the_class_is_not_asked_elsewhere(desk, browser):
    desk.begin()
    assert not browser.is_shown("#malignancy")
    browser.press("r4m")
    assert desk.chosen() == []


def test_reading_goes_on_from_a_file_on_another_computer(desk, browser, tmp_path):
    desk.begin()
    browser.press("r5g1p")
    file = desk.save().rename(tmp_path / "partial.json")
    desk.forget()
    assert not browser.is_shown("#kept")
    browser.type("#file", str(file))
    assert browser.waits_for("Image 3 of 4", "#position") and browser.text("#answered") == "2 answered"
    browser.press("g2g2")
    assert [one["confidence"] for one in answers(desk.save())] == [5, 1, 2, 2]


def test_files_that_cannot_be_trusted_are_not_taken(desk, browser, tmp_path):
    good = answers_file(tmp_path / "good.json", desk.key, [1, None, None, None])
    edited = tmp_path / "edited.json"
    edited.write_text(good.read_text().replace('"confidence": 1', '"confidence": 5'))
    (tmp_path / "broken.json").write_text("{")
    other = answers_file(tmp_path / "other.json", desk.key, [1, None, None, None], study="0" * 12)
    for file, message in (
        (edited, "was changed"),
        (tmp_path / "broken.json", "cannot be read"),
        (other, "another study"),
        (desk.folder / "key.json", "not an answers file"),
    ):
        browser.type("#file", str(file))
        assert browser.waits_for(message, "#refused")
        assert browser.is_shown("#start")


def test_two_windows_do_not_write_over_each_other(desk, browser):
    desk.begin()
    browser.press("r1")
    assert browser.waits_for("1 answered", "#answered")  # a key that comes before the image counts for nothing
    browser.run(
        "const key = Object.keys(localStorage).find((name) => name.endsWith(arguments[0]));"
        "window.dispatchEvent(new StorageEvent('storage', { key }))",
        f"{desk.key['study']}:ab",
    )
    assert "continued in another window" in browser.text("#refused")
    assert browser.text("#kept button") == "AB: 1 of 4"


def test_a_reader_who_has_begun_does_not_begin_again(desk, browser):
    desk.begin()
    browser.press("r1")
    assert browser.waits_for("1 answered", "#answered")  # a key that comes before the image counts for nothing
    browser.reload()
    desk.begin("ab")
    assert browser.waits_for("AB has begun already", "#refused")


def test_the_time_runs_while_the_image_is_on_the_screen(desk, browser):
    clock = "window.clock = 0; performance.now = () => window.clock"
    set_clock = browser.devtools("Page.addScriptToEvaluateOnNewDocument", source=clock)
    try:
        desk.open()
        browser.run("window.clock = 50000")
        desk.begin()
        browser.run("window.clock += 300")
        browser.press("p")
        browser.run("window.clock += 7000")
        browser.click("#continue")
        browser.run("window.clock += 100")
        browser.press("r1")
        browser.run("window.clock += 20")
        browser.press("left")
        browser.run("window.clock += 3")
        browser.press("p")
        assert [one["milliseconds"] for one in answers(desk.save())] == [300 + 100 + 3]
    finally:
        browser.devtools("Page.removeScriptToEvaluateOnNewDocument", **set_clock)


def test_all_images_are_drawn_as_they_are_stored(browser, tmp_path):
    """In the middle of a screen pixel that lies on a voxel, the interpolated grey is that of the voxel."""
    desk = Desk(browser, tmp_path / "study", second_window=(-160.0, 240.0))
    desk.begin()
    stored = images_of_page(desk.folder / "study.html", desk.key["study"])
    edge = browser.run("return document.querySelector('#image').width")
    middles = [int((index + 0.5) * edge / 8) for index in range(8)]
    for image in desk.key["images"]:
        drawn = np.array(browser.run(_GREY, middles))
        np.testing.assert_allclose(drawn, stored[image["id"]], atol=12)  # half a screen pixel off, on noise
        browser.press("right")
    browser.click("#continue")
    for _ in range(3):
        browser.press("right")
    browser.press("w")
    assert "L 40 W 400" in browser.text("#window")
    narrow = np.array(browser.run(_GREY, middles))
    hounsfield = stored[desk.key["images"][3]["id"]] / 255 * 1400 - 1000
    assert (narrow[hounsfield < -250] == 0).all() and (narrow[hounsfield > 330] == 255).all()


_GREY = """
const context = document.querySelector('#image').getContext('2d');
return arguments[0].map((y) => arguments[0].map((x) => context.getImageData(x, y, 1, 1).data[0]));
"""


def test_zoom_keeps_the_scale_bar_true_and_ends_with_the_image(desk, browser):
    desk.begin()

    def bar() -> tuple[float, float]:
        """(length in mm, share of the image)."""
        share = browser.run("return document.querySelector('#scale i').getBoundingClientRect().width")
        edge = browser.run("return document.querySelector('#image').clientWidth")
        return float(browser.text("#scale span").split()[0]), share / edge

    for keys, zoom in (("0", 1), ("+", 1.5), ("+", 2), ("0", 1), ("-", 0.7)):
        browser.press(keys)
        length, share = bar()
        assert length / share == pytest.approx(8 * 0.6 / zoom, rel=0.02)
    browser.wheel("#image", -120)
    assert bar()[0] / bar()[1] == pytest.approx(8 * 0.6, rel=0.02)
    browser.press("+r1")
    assert bar()[0] / bar()[1] == pytest.approx(8 * 0.6, rel=0.02), "each image is first shown whole"


def test_where_the_browser_keeps_nothing_the_reader_is_told_and_can_save(desk, browser, tmp_path):
    blocked = browser.devtools(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })",
    )
    try:
        desk.open()
        assert "keeps nothing" in browser.text("#start .warning")
        desk.begin()
        assert "does not keep your answers" in browser.text("#unkept")
        browser.press("r5p")
        file = desk.save().rename(tmp_path / "partial.json")
        desk.open()
        browser.type("#file", str(file))
        assert browser.waits_for("Image 2 of 4", "#position")
        browser.press("p")
        desk.save()
    finally:
        browser.devtools("Page.removeScriptToEvaluateOnNewDocument", **blocked)


def test_every_control_has_a_name_and_can_be_reached(desk, browser):
    desk.begin()
    browser.press("r")
    unnamed = browser.run(
        "return [...document.querySelectorAll('#reading button')].filter((b) => !(b.innerText || b.ariaLabel)).length"
    )
    assert unnamed == 0
    assert browser.run("return document.querySelector('#image').getAttribute('aria-label')") == "Image 1 of 4"
    seen = set()
    for _ in range(14):
        browser.press("tab")
        seen.add(browser.run("const e = document.activeElement; return e.id || Object.values(e.dataset)[0]"))
    assert {"pause", "real", "generated", "1", "5", "forward", "larger"} <= seen
