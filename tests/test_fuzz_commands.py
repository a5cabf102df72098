"""Tables, lists and whole commands drawn at random: what is right is read, all else ends in a sentence and code 2.

MEDICAL_GANS_FUZZ and MEDICAL_GANS_FUZZ_LOG are those of `io/test_fuzz.py`.
"""

import contextlib
import copy
import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from dicom_images import dicom_slice
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from test_outputs import AFFINE, NETWORK, head, tree

from medical_gans.cli import command as cli
from medical_gans.errors import UserError
from medical_gans.inference.lesions import pictures as lesion_pictures
from medical_gans.io import Volume, find_cases
from medical_gans.io.nodules.positions import COLUMNS, read_positions
from medical_gans.io.sequence_cases import find_sequence_cases
from medical_gans.networks import ResnetGenerator
from medical_gans.report import cases as report_cases
from medical_gans.weights import WeightsCard, build_network, save_weights

EXAMPLES = int(os.environ.get("MEDICAL_GANS_FUZZ", "100"))
LOG = os.environ.get("MEDICAL_GANS_FUZZ_LOG")

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800 if EXAMPLES <= 100 else 0)]


def fuzzed(share: float) -> settings:
    return settings(
        derandomize="MEDICAL_GANS_FUZZ" not in os.environ,
        max_examples=max(int(EXAMPLES * share), 1),
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


def log(test: str, found: object, said: str = "") -> None:
    if LOG:
        with open(LOG, "a") as stream:
            stream.write(f"{test}\t{'read' if found is not None else 'refused'}\t{said[:160]!r}\n")


def outcome(test: str, read):
    """What `read` returns, or None where it refuses in a sentence; anything else fails."""
    try:
        found = read()
    except UserError as error:
        said = str(error)
        assert len(said.split()) >= 5 and "Traceback" not in said
        log(test, None, said)
        return None
    log(test, found)
    return found


# --- tables ---

ANY = Volume(head(), AFFINE, Path("any.nii.gz"))  # a position in mm is the same in every volume

CELLS = st.one_of(
    st.sampled_from(
        ["", " ", "a", "1", "-1,5", "2.5", "1e3", "nan", "inf", "1.3.6.1", "x.mhd", '"', "#", "sep=;", "1 000"]
    ),
    st.text(max_size=6),
)
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t", "|"]),
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    }
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"])
POSITIONS = st.lists(
    st.tuples(
        st.sampled_from(["1.3.6.1.4", "a b", "patient_7"]), *[st.floats(-900, 900).map(lambda v: round(v, 2))] * 3
    ),
    min_size=1,
    max_size=4,
)


@given(
    rows=POSITIONS,
    order=st.permutations([*COLUMNS, "note"]),
    dialect=DIALECTS,
    encoding=ENCODINGS,
    comma=st.booleans(),
    blanks=st.lists(st.integers(0, 4), max_size=2),
    begin=st.sampled_from(["", "# made by hand", "sep"]),
    ending=st.sampled_from(["", ".mhd", ".nii.gz"]),
)
@fuzzed(1)
def test_a_table_of_any_spreadsheet_says_what_was_written(rows, order, dialect, encoding, comma, blanks, begin, ending):
    comma = comma and dialect["delimiter"] != ","
    stream = io.StringIO(newline="")
    if begin:
        stream.write((f"sep={dialect['delimiter']}" if begin == "sep" else begin) + dialect["lineterminator"])
    writer = csv.writer(stream, **dialect)
    writer.writerow(order)
    for number, (uid, *position) in enumerate(rows):
        cells = dict(zip(COLUMNS, [uid + ending, *(_written(value, comma) for value in position)], strict=True))
        writer.writerow([cells.get(name, "") for name in order])
        for _ in range(blanks.count(number)):
            writer.writerow([""] * len(order))
    with TemporaryDirectory() as name:
        table = Path(name, "annotations.csv")
        table.write_bytes(stream.getvalue().encode(encoding))
        found = outcome("table as written", lambda: read_positions(table))
    assert found is not None and len(found) == len(rows)
    for one, (uid, *position) in zip(found, rows, strict=True):
        assert one.series == uid
        assert np.allclose(one.place(ANY), np.array(position) * [-1, -1, 1], atol=1e-9)  # LPS was written


def _written(value: float, comma: bool) -> str:
    return str(value).replace(".", ",") if comma else str(value)


@given(
    header=st.permutations([*COLUMNS, "malignancy"]).flatmap(
        lambda names: st.sampled_from([names, names[:4], names[1:]])
    ),
    rows=st.lists(st.lists(CELLS, max_size=6), max_size=5),
    dialect=DIALECTS,
    encoding=ENCODINGS,
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@fuzzed(3)
def test_a_table_of_anything(header, rows, dialect, encoding, cut):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, escapechar="\\", **dialect)
    for row in (header, *rows):
        writer.writerow(row)
    content = stream.getvalue().encode(encoding, errors="replace")
    with TemporaryDirectory() as name:
        table = Path(name, "annotations.csv")
        table.write_bytes(content if cut is None else content[: int(cut * len(content))])
        for one in outcome("table", lambda: read_positions(table)) or ():
            assert np.isfinite(one.place(ANY)).all() and one.series


# --- data lists ---

PATIENTS = ["p1", "p2", "p 3", "ä"]
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(allow_nan=False),
        st.sampled_from(
            ["p1/mr.nii.gz", "gone.nii.gz", "p1/link.nii.gz", "", ".", "/", "~", "\0", "T1", "$HOME", "p1"]
        ),
        st.text(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["mr", "ct", "mask", "name", "patient", "image", "label", "T1c", "FLAIR", "training"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=6,
)
SECTION = st.sampled_from(["training", "validation", "testing", "inference"])


def spelt(path: str) -> st.SearchStrategy[str]:
    """A path of the list's folder, as people spell it."""
    return st.sampled_from([path, path, f"./{path}", f"../lists/{path}", f"p1/../{path}", f"{{root}}/{path}"])


def entries(names: dict[str, tuple[str, ...]]) -> st.SearchStrategy[list[dict]]:
    """Entries with what is needed and some of what may be there, of one patient each, no patient twice."""

    def of(patient: str) -> st.SearchStrategy[dict]:
        paths = {key: spelt(f"{patient}/{key}.nii.gz") for group in names.values() for key in group}
        further = {"name": st.sampled_from([f"case {patient}", f"of {patient}/1"]), "patient": st.just(patient)}
        return st.fixed_dictionaries(
            {key: paths[key] for key in names["needed"]},
            optional={
                **{key: paths[key] for key in names["optional"]},
                **{key: further[key] for key in names["words"]},
            },
        )

    chosen = st.lists(st.sampled_from(PATIENTS), min_size=1, max_size=4, unique=True)
    return chosen.flatmap(lambda patients: st.tuples(*map(of, patients)).map(list))


OF_PAIRS = entries({"needed": ("mr",), "optional": ("ct", "mask"), "words": ("name", "patient")})
OF_SEQUENCES = entries({"needed": ("T1c", "FLAIR"), "optional": ("label", "mask"), "words": ("name",)})
SPOIL = st.one_of(
    st.none(),  # half of the lists stay as they were written
    st.tuples(st.sampled_from(["value", "drop", "rename", "twice", "wrap", "section"]), st.integers(0, 99), VALUES),
)


def spoilt(content: object, how: tuple | None) -> object:
    """A list of which one place was changed."""
    if how is None:
        return content
    kind, number, value = how
    places = []

    def look(node: object) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            look(node[key])

    look(content)
    node, key = places[number % len(places)]
    if kind == "value":
        node[key] = value
    elif kind == "drop":
        del node[key]
    elif kind == "rename" and isinstance(node, dict):
        node[str(value)[:6]] = node.pop(key)
    elif kind == "twice" and isinstance(node, list):
        node.append(node[key])
    elif kind == "wrap":
        node[key] = [node[key]]
    elif kind == "section":
        return {"cases": content} if number % 2 else {"training": content}
    return content


def write_list(folder: Path, content: object, encoding: str, indent: int | None) -> Path:
    """The images of all patients, and a list of some of them."""
    for patient in PATIENTS:
        (folder / patient).mkdir(parents=True)
        for name in ("mr", "ct", "mask", "T1c", "FLAIR", "label"):
            (folder / patient / f"{name}.nii.gz").write_bytes(IMAGE)
        (folder / patient / "link.nii.gz").symlink_to(folder / "annexed")
    text = json.dumps(content, ensure_ascii=encoding == "ascii", indent=indent).replace("{root}", str(folder))
    (folder / "list.json").write_text(text, encoding=encoding)
    return folder / "list.json"


IMAGE = nib.Nifti1Image(head(), AFFINE).to_bytes()
LAYOUT = {"encoding": st.sampled_from(["utf-8", "utf-8-sig", "ascii"]), "indent": st.sampled_from([None, 2])}


def same_file(path: Path | None, folder: Path, written: str | None) -> bool:
    if path is None or written is None:
        return path is None and written is None
    return os.path.samefile(path, folder / os.path.expanduser(written.replace("{root}", str(folder))))


@given(
    sections=st.dictionaries(SECTION, OF_PAIRS, min_size=1, max_size=3),
    plain=st.booleans(),
    unpaired=st.booleans(),
    spoil=SPOIL,
    **LAYOUT,
)
@fuzzed(3)
def test_a_data_list_says_what_was_written(sections, plain, unpaired, spoil, encoding, indent):
    wanted = next(sections[name] for name in ("inference", "testing", "validation", "training") if name in sections)
    content: object = copy.deepcopy(sections)
    if plain:
        content = [entry["mr"] if set(entry) == {"mr"} else entry for entry in copy.deepcopy(wanted)]
    elif unpaired:
        content = {
            name: {role: [entry[role] for entry in listed if role in entry] for role in ("mr", "ct")}
            for name, listed in sections.items()
        }
        wanted = [{key: entry[key] for key in entry if key in ("mr", "ct")} for entry in wanted]
    content = spoilt(content, spoil)
    with TemporaryDirectory() as name:
        folder = Path(name, "lists")
        path = write_list(folder, content, encoding, indent)
        before = tree(folder)
        found = outcome("data list as written" if spoil is None else "data list spoilt", lambda: find_cases(path))
        assert tree(folder) == before
        if spoil is not None:
            said = set(_texts(content))
            for case in found or ():
                assert len({one.name for one in found}) == len(found)
                for role in ("mr", "ct", "mask"):
                    image = getattr(case, role)
                    assert image is None or any(_is(image, folder, text) for text in said), image
            return
        assert found is not None and len(found) == len(wanted)
        by_mr = {os.path.realpath(case.mr): case for case in found}
        for entry in wanted:
            case = by_mr[os.path.realpath(folder / entry["mr"].replace("{root}", str(folder)))]
            assert same_file(case.ct, folder, entry.get("ct")) and same_file(case.mask, folder, entry.get("mask"))


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(inner)


def _is(image: Path, folder: Path, text: str) -> bool:
    try:
        return same_file(image, folder, text)
    except (OSError, ValueError):
        return False


@given(
    sections=st.dictionaries(SECTION, OF_SEQUENCES, min_size=1, max_size=2),
    shape=st.sampled_from(["names", "list"]),
    spoil=SPOIL,
    **LAYOUT,
)
@fuzzed(2)
def test_a_data_list_of_sequences_says_what_was_written(sections, shape, spoil, encoding, indent):
    taken: list[dict] = []
    content: dict = {}
    for section in ("training", "validation", "testing", "inference"):
        for entry in sections.get(section, ()):
            if any(entry["T1c"].split("/")[-2:] == other["T1c"].split("/")[-2:] for other in taken):
                continue  # a patient of two sections would be two cases of one name
            taken.append(entry)
            images = {key: entry[key] for key in ("FLAIR", "T1c")}
            one = {key: entry[key] for key in ("label", "mask", "name") if key in entry}
            one["image"] = images if shape == "names" else [entry["T1c"], entry["FLAIR"]]
            one.setdefault("name", f"case {len(taken)}")
            content.setdefault(section, []).append(one)
    names = [one["name"] for listed in content.values() for one in listed]
    spoilt_content = spoilt(content, spoil)
    with TemporaryDirectory() as name:
        folder = Path(name, "lists")
        path = write_list(folder, spoilt_content, encoding, indent)
        before = tree(folder)
        test = f"data list of sequences {'as written' if spoil is None else 'spoilt'}"
        found = outcome(test, lambda: find_sequence_cases(path, ["T1c", "FLAIR"], label="label", mask="mask"))
        assert tree(folder) == before
        if spoil is not None:
            said = set(_texts(spoilt_content))
            for case in found or ():
                for image in (*case.channels, case.label, case.mask):
                    assert image is None or any(_is(image, folder, text) for text in said), image
            return
        assert found is not None and len(found) == len(taken) == len(names)
        for case, entry in zip(found, taken, strict=True):
            for image, key in zip(case.channels, ("T1c", "FLAIR"), strict=True):
                assert same_file(image, folder, entry[key])
            assert same_file(case.label, folder, entry.get("label")) and same_file(case.mask, folder, entry.get("mask"))


@example(content=[{"image": -3}])
@example(content={"training": 3})
@example(content=["/", "/"])
@given(content=st.one_of(VALUES, st.dictionaries(st.one_of(SECTION, st.just("cases")), st.lists(VALUES, max_size=3))))
@fuzzed(1)
def test_a_data_list_of_anything(content):
    with TemporaryDirectory() as name:
        folder = Path(name, "lists")
        path = write_list(folder, content, "utf-8", None)
        before = tree(folder)
        for case in outcome("data list of anything", lambda: find_cases(path)) or ():
            assert case.mr is not None and case.mr.exists()
        found = outcome("data list of anything", lambda: find_sequence_cases(path, ["T1c"]))
        assert all(image is not None and image.exists() for case in found or () for image in case.channels)
        assert tree(folder) == before


# --- commands ---

NAMES = st.sampled_from(
    ["mr", "ct", "T1c", "mask", "p1", "p 2", "sub-01", "anat", "report", "$HOME", "ä", "-x", "#1", "@d"]
)
THINGS = st.sampled_from(
    ["image", "image", "image", "float", "tilted", "dicom", "echoes", "constant", "nan", "4d", "cut", "text", "link"]
)
SETTINGS = [
    *("select", "strict", "write_dicom", "spacing", "overlap", "seed", "mask", "device", "nonsense", "planes", "tile"),
    *("slice_batch", "roi_size", "channels", "missing", "sw_batch_size", "min_volume_ml", "num_classes", "viewer"),
]
VALUES_OF_SETTINGS = [
    *(
        "true",
        "false",
        "1",
        "echo 2",
        "volume 2",
        "[2,2,3]",
        "[0,0,0]",
        "-1",
        "cpu",
        "cuda:9",
        "",
        "$x",
        "2.5",
        "1e400",
    ),
    *("nan", "null", "[T1c]", "[1]", "{T1c: volume 2}", "axial", "banana"),
]
WORDS = st.lists(
    st.tuples(st.sampled_from(SETTINGS), st.sampled_from(VALUES_OF_SETTINGS)),
    max_size=2,
    unique_by=lambda pair: pair[0],
)


def put(folder: Path, name: str, thing: str, seed: int) -> None:
    """A file or DICOM folder of some kind."""
    values, affine, path = head(seed), AFFINE.copy(), folder / f"{name}.nii.gz"
    if thing in ("dicom", "echoes"):
        (folder / name).mkdir(exist_ok=True)
        for k in range(16 * (1 + (thing == "echoes"))):
            at = k // 2 if thing == "echoes" else k
            image = dicom_slice(
                "MR", head(seed + k % 2)[:, :, at].T, (0, 0, 3 * at), (1, 0, 0, 0, 1, 0), f"2.25.{seed + 1}"
            )
            image.EchoNumbers = k % 2 + 1 if thing == "echoes" else 1
            image.PixelSpacing = [2, 2]
            image.save_as(folder / name / f"{k}.dcm", enforce_file_format=True)
        return
    if thing == "link":
        path.symlink_to(folder / "annexed")
        return
    if thing == "text":
        (folder / f"{name}.csv").write_text("some,text\n1,2\n")
        return
    if thing in ("float", "nan"):
        values = values.astype(np.float32) / 900
        values[10, 10, 8] = np.nan if thing == "nan" else 0.5
    if thing == "tilted":
        affine[:3, :3] = [[1.9, 0.3, 0.2], [-0.3, 1.95, 0.4], [-0.2, -0.5, 2.9]]
    if thing == "constant":
        values[:] = 7
    if thing == "4d":
        values = np.stack([values, head(seed + 1)], axis=-1)
    nib.save(nib.Nifti1Image(values, affine), path)
    if thing == "cut":
        path.write_bytes(path.read_bytes()[:-40])


@contextlib.contextmanager
def without_pictures():
    """Pictures take most of the time of a run on small images."""
    kept = {kind: getattr(report_cases, kind) for kind in ("overview", "contact_sheet", "histogram", "thumbnail")}
    drawn = lesion_pictures.LesionPictures.draw
    for kind in kept:

        def draw(volumes, path):
            path.write_bytes(b"picture")

        draw.__name__ = kind
        setattr(report_cases, kind, draw)
    lesion_pictures.LesionPictures.draw = lambda self, folder: None
    try:
        yield
    finally:
        lesion_pictures.LesionPictures.draw = drawn
        for kind, function in kept.items():
            setattr(report_cases, kind, function)


def small_weights(folder: Path, workflow: str) -> Path:
    path = folder / "small.pt"
    if workflow == "mr_to_ct":
        network_def = {"_target_": "medical_gans.networks.ResnetGenerator", "width": 2, "blocks": 0}
        save_weights(path, ResnetGenerator(width=2, blocks=0))
        WeightsCard([None] * 3, network_def=network_def).save(path)
    else:
        save_weights(path, build_network(NETWORK))
        WeightsCard([None] * 3, network_def=NETWORK, classes=["background", "lesion"], channels=["T1c"]).save(path)
    return path


@given(
    workflow=st.sampled_from(["mr_to_ct", "mr_to_ct", "brain_lesion"]),
    things=st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES, THINGS), min_size=1, max_size=3),
    words=WORDS,
    out=st.sampled_from(["out", "out", "data", "data/out", "data/p1"]),
)
@fuzzed(0.1)
def test_a_command_on_anything(workflow, things, words, out):
    with TemporaryDirectory() as name, without_pictures():
        root, data = Path(name), Path(name, "data")
        data.mkdir()
        for seed, (around, own, thing) in enumerate(things):
            own = "T1c" if workflow == "brain_lesion" and seed == 0 else own  # else next to nothing would be segmented
            folder = data.joinpath(*around)
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                folder.mkdir(parents=True, exist_ok=True)
                put(folder, own, thing, seed)
        before = tree(data)
        given_words = [workflow, "inference", "--dataset_dir", str(data), "--output_dir", str(root / out)]
        given_words += ["--weights", str(small_weights(root, workflow))]
        given_words += [text for key, value in words for text in (f"--{key}", value)]
        given_words += [] if any(key == "device" for key, _ in words) else ["--device", "cpu"]
        screen, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(errors):
            code = cli.main(given_words)
        said = errors.getvalue()
        log(f"command {workflow}", code if code == 0 else None, said[-160:])
        assert code in (0, 2), said
        assert "Traceback" not in said and "bug of" not in said, said
        assert said.count("medical-gans: error:") == (code == 2), said
        after = tree(data)
        assert {place: after.get(place) for place in before} == before
        manifest = root / out / "manifest.json"
        if code == 0:
            assert "done" in manifest.read_text() or "warning" in manifest.read_text()
        for place in set(tree(root)) - {f"data/{place}" for place in before}:
            if place.endswith(".nii.gz"):
                image = nib.load(root / place)
                assert image.shape == head().shape
                assert np.asarray(image.dataobj).dtype == (np.int16 if "synthetic_ct" in place else np.uint8), place
