"""Headers and folders spoilt at random from valid ones: the right volume, or one sentence; never anything else.

What is read is compared with readers that are not ours: nibabel and SimpleITK for NIfTI, pydicom file by file for
DICOM. No file of the input may change. MEDICAL_GANS_FUZZ scales the number of examples (100, the default: 2300 in
less than a minute); MEDICAL_GANS_FUZZ_LOG names a file that gets a line per example: which test, read or refused,
first words.
"""

import gzip
import hashlib
import os
import shutil
import struct
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_images import dicom_slice
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from medical_gans.errors import UserError
from medical_gans.io import find_cases, list_series, read_label_map, read_mask, read_volume

EXAMPLES = int(os.environ.get("MEDICAL_GANS_FUZZ", "100"))
LOG = os.environ.get("MEDICAL_GANS_FUZZ_LOG")
SHAPE = (6, 7, 5)
AFFINES = [
    np.array([[0.9, -0.2, 0.3, -91], [0.25, 1.1, -0.4, 27], [-0.1, 0.5, 3.2, -210], [0, 0, 0, 1.0]]),
    np.diag([-1.25, -0.75, 2.5, 1]),
    np.array([[0, 0, 2.0, 5], [-1, 0, 0, 9], [0, 1, 0, -7], [0, 0, 0, 1.0]]),
]


def fuzzed(times: int) -> settings:
    """Settings of a test that runs `times` as often as the slowest kind of example could."""
    return settings(
        derandomize="MEDICAL_GANS_FUZZ" not in os.environ,  # the same examples in every run of the suite
        max_examples=EXAMPLES * times,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # examples are small as they come; shrinking takes minutes
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )


pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(1800 if EXAMPLES <= 100 else 0)]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder and what is in it."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


_COLLECTED = "Implicitly cleaning up <TemporaryDirectory"


def outcome(test: str, folder: Path, read):
    """What `read` returns, or None where it refuses in a sentence; anything else fails, as does a changed file."""
    before = tree(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read()
            said = ""
        except UserError as error:
            found, said = None, str(error)
            assert len(said.split()) >= 5 and said[0] != " " and "Traceback" not in said
            assert "Planted" not in said and "planted-id" not in said
    assert tree(folder) == before
    # a folder that another test left to the garbage collector may be noticed here
    shown = [
        one for one in caught if not issubclass(one.category, DeprecationWarning) and _COLLECTED not in str(one.message)
    ]
    assert not shown, [str(one.message) for one in shown]
    if LOG:
        with open(LOG, "a") as stream:
            stream.write(f"{test}\t{'read' if found is not None else 'refused'}\t{said[:160]!r}\n")
    return found


# --- NIfTI ---

NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 0.001, 1000.0, 1e-40, 1e38, -1e38, np.nan, np.inf, -np.inf, 348, 352]),
    st.floats(width=32),
    st.floats(0.999, 1.001),
)
WHOLE = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 64, 128, 256, 32767]), st.integers(-(2**15), 2**15 - 1)
)
FIELDS = {
    **{f"dim[{k}]": (40 + 2 * k, "h", WHOLE) for k in range(8)},
    "datatype": (70, "h", WHOLE),
    "bitpix": (72, "h", WHOLE),
    **{f"pixdim[{k}]": (76 + 4 * k, "f", NUMBERS) for k in range(8)},
    "vox_offset": (108, "f", NUMBERS),
    "scl_slope": (112, "f", NUMBERS),
    "scl_inter": (116, "f", NUMBERS),
    "xyzt_units": (123, "b", st.integers(-128, 127)),
    "qform_code": (252, "h", WHOLE),
    "sform_code": (254, "h", WHOLE),
    **{f"quatern_{k}": (256 + 4 * k, "f", NUMBERS) for k in range(3)},
    **{f"qoffset_{k}": (268 + 4 * k, "f", NUMBERS) for k in range(3)},
    **{f"srow[{k}]": (280 + 4 * k, "f", NUMBERS) for k in range(12)},
    "sizeof_hdr": (0, "i", st.one_of(st.sampled_from([0, 348, 540, 1543569408]), st.integers(-(2**31), 2**31 - 1))),
    "magic": (344, "i", st.one_of(st.sampled_from([0x312B6E, 0x31696E, 0, 0x322B6E]), st.integers(0, 2**31 - 1))),
}
FIELD = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), FIELDS[name][2]))
BYTES = st.tuples(st.just("byte"), st.tuples(st.integers(0, 351), st.integers(0, 255)))
BASES = st.tuples(
    st.sampled_from(["i2", "u1", "f4", "u2", "f8"]),
    st.sampled_from(range(len(AFFINES))),
    st.sampled_from("<>"),
    st.sampled_from(["both", "sform", "qform"]),
)


def base_image(kind: str, number: int, order: str, forms: str) -> nib.Nifti1Image:
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(kind).newbyteorder(order))
    affine = AFFINES[number]
    values = np.random.default_rng(number).integers(1, 200, SHAPE).astype(kind)
    image = nib.Nifti1Image(values, affine, header)
    image.set_sform(affine, 1 if forms != "qform" else 0)
    if number == 0 and forms != "sform":  # sheared: no qform holds it
        image.set_qform(None)
        image.set_sform(affine, 1)
    else:
        image.set_qform(affine, 1 if forms != "sform" else 0)
    image.header.set_xyzt_units("mm")
    return image


def corners(shape, affine) -> np.ndarray:
    return nib.affines.apply_affine(affine, np.indices((2, 2, 2)).reshape(3, 8).T * (np.array(shape[:3]) - 1))


def has_endless_sform(path: Path) -> bool:
    """Whether an entry of a NIfTI's sform is no number: ITK looks for its rotation and never ends."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as file:
            header = nib.Nifti1Header.from_fileobj(file, check=False)
    except Exception:  # no header, which ITK will say as well
        return False
    return not np.isfinite(header.get_sform()).all()


def by_itk(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    if ".nii" in path.suffixes and has_endless_sform(path):
        return None
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return None
    if image.GetNumberOfComponentsPerPixel() != 1 or image.GetDimension() < 3:
        return None
    affine = np.eye(4)
    n = image.GetDimension()
    affine[:3, :3] = (np.array(image.GetDirection()).reshape(n, n) * image.GetSpacing())[:3, :3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return np.squeeze(sitk.GetArrayFromImage(image).T), np.diag([-1, -1, 1, 1]) @ affine


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    with np.errstate(all="ignore"):
        try:
            image = nib.load(path)
            return np.squeeze(np.asarray(image.dataobj)), image.affine
        except Exception:  # it refuses in many ways
            return None


def stored_affines(content: bytes, order: str) -> list[np.ndarray]:
    """The sform and the qform as nibabel computes them, whatever their codes say."""
    header = nib.Nifti1Header(content[:348], endianness=order, check=False)
    found = [header.get_sform()]
    with np.errstate(all="ignore"):
        try:
            header["qform_code"] = 1
            found.append(header.get_qform())
        except Exception:  # no quaternion
            pass
    return [affine for affine in found if affine is not None and np.isfinite(affine).all()]


def scaled_by_header(voxels: np.ndarray, content: bytes, order: str) -> np.ndarray:
    """Voxels times scl_slope plus scl_inter, as the standard has it: no scale where the slope is 0 or no number."""
    slope, inter = struct.unpack_from(f"{order}2f", content, 112)
    with np.errstate(all="ignore"):
        usable = slope and np.isfinite(slope)
        return voxels * np.float64(slope) + (inter if np.isfinite(inter) else 0.0) if usable else voxels


def same(volume, other, factors=(1.0,)) -> bool:
    """Whether an array and an affine are those of a volume, lengths by one of the factors."""
    if other is None or other[0].shape != volume.array.shape:
        return False
    with np.errstate(all="ignore"):
        wanted = np.asarray(other[0], dtype=np.float64)
        scale = max(float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0)), 1e-30)
        if not np.allclose(volume.array, wanted, rtol=1e-5, atol=1e-6 * scale):
            return False
    here = corners(volume.array.shape, volume.affine)
    for factor in factors:
        there = corners(volume.array.shape, np.diag([factor, factor, factor, 1]) @ other[1])
        if np.allclose(here, there, rtol=1e-4, atol=1e-3 * np.abs(here - here.mean(axis=0)).max()):
            return True
    return False


@given(base=BASES, changes=st.lists(st.one_of(FIELD, BYTES), min_size=1, max_size=3), packed=st.booleans())
@fuzzed(10)
def test_a_nifti_header_spoilt_at_random(base, changes, packed):
    image = base_image(*base)
    content = bytearray(image.to_bytes())
    order = base[2]
    for name, value in changes:
        if name == "byte":
            content[value[0]] = value[1]
        else:
            place, kind, _ = FIELDS[name]
            with np.errstate(over="ignore"):
                value = np.float32(value) if kind == "f" else value
            struct.pack_into(f"{order}{kind}", content, place, value)
    with TemporaryDirectory() as name:
        path = Path(name, "mr.nii.gz" if packed else "mr.nii")
        path.write_bytes(gzip.compress(bytes(content), 1) if packed else bytes(content))
        volume = outcome("nifti", Path(name), lambda: read_volume(path))
        if volume is None:
            return
        assert np.isfinite(volume.affine).all() and np.isfinite(volume.array).all()
        original = np.asarray(image.dataobj), image.affine
        factors = (1.0,) if not volume.notes else (1.0, 1e3, 1e-3)
        if not (same(volume, original, factors) or same(volume, by_nibabel(path), factors)):
            scaled = scaled_by_header(original[0], bytes(content), order), original[1]
            unscaled = Path(name, "unscaled.nii")
            unscaled.write_bytes(bytes(content[:112]) + bytes(8) + bytes(content[120:]))
            stored = by_nibabel(unscaled)  # in the shape that the header says, where nibabel refuses its scale
            rescaled = stored and (scaled_by_header(stored[0], bytes(content), order), stored[1])
            others = [one for one in (original, scaled, rescaled, by_nibabel(path), by_itk(path)) if one is not None]
            places = [found[1] for found in others] + stored_affines(bytes(content), order)
            # where something was mended, the voxels may be those of one reader and the place that of another
            pairs = [(found[0], place) for found in others for place in places] if volume.notes else others
            assert any(same(volume, pair, factors) for pair in pairs), volume.notes
        for reader in (read_mask, read_label_map):
            outcome("nifti as label", Path(name), lambda reader=reader: reader(path))


@given(
    base=BASES,
    kept=st.floats(0, 1),
    flipped=st.one_of(st.none(), st.tuples(st.floats(0, 1), st.integers(1, 255))),
    suffix=st.sampled_from([".nii", ".nii.gz", ".mha", ".nrrd", ".nhdr", ".mhd", ".mgz", ".hdr", ".dcm", ".txt", ""]),
)
@fuzzed(6)
def test_a_file_cut_or_with_a_changed_byte(base, kept, flipped, suffix):
    image = base_image(*base)
    with TemporaryDirectory() as name:
        path = Path(name, f"mr{suffix}")
        values, affine = np.asarray(image.dataobj).astype(np.int16), image.affine
        if suffix in (".mha", ".nrrd", ".nhdr", ".mhd"):
            sitk.WriteImage(sitk.GetImageFromArray(values.T), str(path))
        elif suffix == ".mgz":
            nib.save(nib.MGHImage(values, affine), path)
        elif suffix == ".hdr":
            nib.save(nib.Nifti1Pair(values, AFFINES[1]), path)
        else:
            path.write_bytes(gzip.compress(image.to_bytes(), 1) if suffix == ".nii.gz" else image.to_bytes())
        content = bytearray(path.read_bytes())
        if flipped is None:
            content = content[: int(kept * len(content))]
        elif content:
            place = min(int(flipped[0] * len(content)), len(content) - 1)
            content[place] ^= flipped[1]
        path.write_bytes(bytes(content))
        volume = outcome(f"bytes {suffix}", Path(name), lambda: read_volume(path))
        if volume is None or flipped is not None:
            return
        assert kept > 0.99 and volume.array.shape == SHAPE


# --- DICOM ---

ORIENTATIONS = [
    (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997),
]
KEYWORDS = [
    *(
        "SpecificCharacterSet",
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyDate",
        "Modality",
        "SeriesDescription",
    ),
    *("PatientName", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("FrameOfReferenceUID", "PatientPosition", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelData", "NumberOfFrames"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "AcquisitionNumber", "StackID", "PixelPaddingValue"),
    *("SliceThickness", "SpacingBetweenSlices", "SliceLocation", "LossyImageCompression"),
]
TEXTS = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "0",
            "1",
            "-1",
            "1.5",
            "1,5",
            "abc",
            "1\\2\\3",
            "\\",
            "nan",
            "1e400",
            "inf",
            "3.1/2",
            "anonymized",
            "1.2",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20),
)
WHICH = st.one_of(st.none(), st.integers(0, 5))  # every slice, or one
CHANGE = st.one_of(
    st.tuples(st.just("drop"), st.sampled_from(KEYWORDS), WHICH),
    st.tuples(st.just("empty"), st.sampled_from(KEYWORDS), WHICH),
    st.tuples(st.just("garble"), st.sampled_from(KEYWORDS), WHICH, TEXTS),
    st.tuples(st.just("bytes"), st.sampled_from(KEYWORDS), WHICH, st.binary(max_size=12)),
    st.tuples(
        st.just("round"), st.sampled_from(["ImagePositionPatient", "ImageOrientationPatient"]), st.integers(0, 4)
    ),
    st.tuples(st.just("move"), WHICH, st.floats(-5, 5), st.integers(0, 2)),
    st.tuples(
        st.just("scale"), WHICH, st.sampled_from([0.5, 1.0, 1.25, 2.0, -1.0, 0.0]), st.sampled_from([0, -1024, 0.5])
    ),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("copy"), st.integers(0, 5), st.booleans()),
    st.tuples(st.just("echo"), st.sampled_from(["EchoTime", "ImageType", "TemporalPositionIdentifier"])),
    st.tuples(st.just("other"), st.sampled_from(["MR", "CT", "OT"]), st.integers(1, 3)),
    st.tuples(st.just("syntax"), st.sampled_from(["deflated", "rle", "bare", "headless"]), WHICH),
    st.tuples(st.just("cut"), st.integers(0, 5), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.integers(0, 5), st.floats(0, 1), st.integers(1, 255)),
    st.tuples(st.just("rename"), st.sampled_from(["", ".ima", ".IMA", ".bin", ".jpg"])),
    st.tuples(st.just("nest"), st.integers(1, 3)),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("litter"), st.sampled_from(["notes.txt", "DICOMDIR", "x.dcm", "a.json", ".hidden", "r.pdf"])),
)


def put_raw(image: pydicom.Dataset, keyword: str, content: bytes) -> None:
    tag = Tag(tag_for_keyword(keyword))
    vr = dictionary_VR(tag).split(" ")[0]
    content += b"\0" * (len(content) % 2) if vr in ("UI", "US", "OB", "OW") else b" " * (len(content) % 2)
    image._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)


def change_image(image: pydicom.Dataset, k: int, change: tuple, count: int) -> None:
    kind, *rest = change
    if kind in ("drop", "empty", "garble", "bytes") and rest[1] in (None, k):
        keyword = rest[0]
        if kind == "drop":
            image._dict.pop(Tag(tag_for_keyword(keyword)), None)
        else:
            content = b"" if kind == "empty" else rest[2] if kind == "bytes" else rest[2].encode("latin-1")
            put_raw(image, keyword, content)
    elif kind == "round" and rest[0] in image:
        values = [f"{float(value):.{rest[1]}f}" for value in image[rest[0]].value or ()]
        put_raw(image, rest[0], "\\".join(values).encode())
    elif kind == "move" and rest[0] in (None, k):
        position = [float(value) for value in image.ImagePositionPatient]
        position[rest[2]] += rest[1]
        image.ImagePositionPatient = [f"{value:.9g}" for value in position]
    elif kind == "scale" and rest[0] in (None, k):
        image.RescaleSlope, image.RescaleIntercept = str(rest[1]), str(rest[2])
    elif kind == "echo":
        image.ImagePositionPatient = [-20, -30, 40 + 2.5 * (k // 2)]
        value = {"EchoTime": 10 + k % 2, "ImageType": ["A", "B", "MP"[k % 2]], "TemporalPositionIdentifier": 1 + k % 2}
        setattr(image, rest[0], value[rest[0]])


def change_files(folder: Path, files: list[Path], change: tuple) -> list[Path]:
    kind, *rest = change
    present = [path for path in files if path.is_file()]
    at = present[rest[0] % len(present)] if present and rest and isinstance(rest[0], int) else None
    if kind == "lose" and at:
        at.unlink()
    elif kind == "copy" and at:
        try:
            image = pydicom.dcmread(at, force=True) if rest[1] else {}
        except Exception:  # pydicom cannot read what was spoilt before
            return files
        if "PixelData" in image and len(image.PixelData or b"") > 3:
            image.PixelData = bytes(image.PixelData)[:-2] + b"\x17\x01"
            image.save_as(at.with_name(f"copy {at.name}"))
        else:
            shutil.copy(at, at.with_name(f"copy {at.name}"))
    elif kind == "other":
        for k in range(rest[1]):
            image = dicom_slice(rest[0], np.full((6, 4), k, np.int16), (0, 0, k), ORIENTATIONS[0], "1.2.3.900")
            image.save_as(folder / f"other{k}.dcm", enforce_file_format=True)
    elif kind == "cut" and at:
        content = at.read_bytes()
        at.write_bytes(content[: int(rest[1] * len(content))])
    elif kind == "flip" and at:
        content = bytearray(at.read_bytes())
        if content:
            content[min(int(rest[1] * len(content)), len(content) - 1)] ^= rest[2]
        at.write_bytes(bytes(content))
    elif kind == "rename":
        files = [path.rename(path.with_suffix(rest[0])) if path.is_file() else path for path in files]
    elif kind == "nest":
        deep = folder.joinpath(*("abc"[: rest[0]]))
        deep.mkdir(parents=True, exist_ok=True)
        for path in present[::2]:
            path.rename(deep / path.name)
    elif kind == "link":
        number = len(list(folder.glob("link*")))
        (folder / f"link{number}.dcm").symlink_to(present[0] if rest[0] and present else folder / "gone.dcm")
    elif kind == "litter":
        (folder / rest[0]).write_bytes(b"\x08\x00text of somebody" * 20)
    elif kind == "syntax":
        for path in present:
            with_syntax(path, rest[0])
    return files


def with_syntax(path: Path, how: str) -> None:
    try:
        if how == "headless":
            path.write_bytes(path.read_bytes()[132:])
            return
        image = pydicom.dcmread(path)
        if how == "rle":
            image.compress(RLELossless)
            image.save_as(path)
        elif how == "deflated":
            image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
            image.save_as(path)
        else:
            image.file_meta = pydicom.dataset.FileMetaDataset()
            pydicom.dcmwrite(path, image, implicit_vr=True, little_endian=True, force_encoding=True)
    except Exception:  # pydicom cannot write what was spoilt before
        return


def floats(image: pydicom.Dataset, keyword: str) -> list[float]:
    value = image.get(keyword)
    values = [value] if isinstance(value, str | float | int) else value
    return [float(str(one).strip("\0 ").replace(",", ".")) for one in values]


def _identity(image: pydicom.Dataset) -> tuple[str, str]:
    return str(image.get("SOPInstanceUID", "")), str(image.get("ImagePositionPatient", ""))


def check_volume(folder: Path, volume) -> None:
    """Each slice of a volume against its own file, as pydicom reads it."""
    files: dict[tuple[str, str], pydicom.Dataset] = {}  # by UID and place, for a spoilt UID may be that of all slices
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        try:
            image = pydicom.dcmread(path, force=True)
            files.setdefault(_identity(image), image)
        except Exception:
            continue
    notes = " ".join(volume.notes)
    slices = volume.array.shape[2]
    assert len(volume.headers) == slices
    spacing = np.linalg.norm(volume.affine[:3, 2])
    for k, header in enumerate(volume.headers):
        image = files.get(_identity(header))
        here = (volume.affine @ [0, 0, k, 1])[:3] * [-1, -1, 1]
        apart = np.abs(here - floats(header, "ImagePositionPatient")).max()
        assert apart <= (0.03 if "off the regular grid" not in notes else max(1.0, 0.26 * spacing)) + 0.1, (
            apart,
            notes,
        )
        row, column = np.reshape(floats(header, "ImageOrientationPatient"), (2, 3))
        between = floats(header, "PixelSpacing")
        for axis, (direction, edge) in enumerate(((row, between[1]), (column, between[0]))):
            off = np.abs(volume.affine[:3, axis] * [-1, -1, 1] - direction * edge).max() / edge
            assert off <= (2e-3 if not volume.notes else 0.03), (off, notes)
        if image is None or "PixelPadding" in notes or "RealWorld" in notes:
            continue
        if not getattr(image, "file_meta", None) or "TransferSyntaxUID" not in image.file_meta:
            image.file_meta = pydicom.dataset.FileMetaDataset()
            implicit = image.original_encoding[0]
            packed = image["PixelData"].is_undefined_length  # by `with_syntax`, before it lost its syntax
            native = "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"
            image.file_meta.TransferSyntaxUID = RLELossless if packed else native
        size = int(image.Rows) * int(image.Columns) * int(image.BitsAllocated) // 8
        try:
            stored = bytes(image.PixelData)
        except NotImplementedError:  # the kind of the pixels' element was spoilt
            continue
        if len(stored) == size + 4 and int.from_bytes(stored[:4], "little") == size:
            image.PixelData = stored[4:]  # a spoilt kind of element: pydicom takes its length for the first pixels
        factors = [1.0, 0.0]
        for number, keyword in enumerate(("RescaleSlope", "RescaleIntercept")):
            if image.get(keyword) not in (None, ""):
                factors[number] = floats(image, keyword)[0]
        try:
            plane = image.pixel_array.astype(np.float64) * factors[0] + factors[1]
        except NotImplementedError:  # pydicom does not know the syntax, which was spoilt
            continue
        assert np.allclose(volume.array[:, :, k], plane.T, rtol=1e-5, atol=1e-4)
    along = np.array([floats(header, "ImagePositionPatient") for header in volume.headers])
    steps = np.linalg.norm(np.diff(along, axis=0), axis=1)
    assert np.ptp(steps) <= (0.1 if "off the regular grid" not in notes else 0.6 * spacing), steps


@given(
    modality=st.sampled_from(["MR", "MR", "CT"]),
    orientation=st.sampled_from(ORIENTATIONS),
    changes=st.lists(CHANGE, min_size=1, max_size=4),
    order=st.permutations(range(6)),
    select=st.one_of(
        st.none(), st.none(), st.sampled_from(["echo 1", "TE 10", "M", "time 1", "axial", "series 1", ", ,"])
    ),
    wanted=st.sampled_from([None, "MR", "CT"]),
)
@fuzzed(4)
def test_a_dicom_folder_spoilt_at_random(modality, orientation, changes, order, select, wanted):
    axes = np.reshape(orientation, (2, 3))
    normal = np.cross(*axes)
    random = np.random.default_rng(3)
    with TemporaryDirectory() as name, pydicom.config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder, files = Path(name, "data"), []
        folder.mkdir()
        for k in range(6):
            pixels = random.integers(0, 2000, (6, 4)).astype(np.int16)
            image = dicom_slice(
                modality, pixels, np.array([-20.0, -30, 40]) + 2.5 * k * normal, orientation, "1.2.3.100"
            )
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{k}"
            image.InstanceNumber = order[k] + 1
            image.SeriesNumber = 1
            path = folder / f"{order[k]}.dcm"
            try:
                for change in changes:
                    change_image(image, k, change, 6)
                image.save_as(path, enforce_file_format=True)
            except Exception:  # pydicom cannot write it
                continue
            files.append(path)
        for change in changes:
            files = change_files(folder, files, change)
        pydicom.config.settings.reading_validation_mode = pydicom.config.WARN
        volume = outcome("dicom", Path(name), lambda: read_volume(folder, select=select, modality=wanted))
        if volume is not None:
            check_volume(folder, volume)
        outcome("dicom list", Path(name), lambda: list_series(folder))
        cases = outcome("dicom cases", Path(name), lambda: find_cases(folder))
        for case in cases or ():
            outcome("dicom case", Path(name), lambda case=case: read_volume(case.mr_source, modality="MR"))


# --- folders ---

NAMES = st.one_of(
    st.sampled_from(
        ["mr", "ct", "mask", "T1", "p1", "p2", "train", "val", "test", "unpaired", "ä b", "-x", "$HOME", "%x", "@d"]
    ),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
        lambda name: name not in (".", "..") and len(name.encode()) < 100
    ),
)
ENTRY = st.tuples(
    st.lists(NAMES, max_size=3),
    NAMES,
    st.sampled_from(
        [".nii.gz", ".nii", ".mha", ".nrrd", ".mgz", ".json", ".csv", ".txt", ".zip", "", "/", "link", "loop"]
    ),
)


@given(entries=st.lists(ENTRY, max_size=6), required=st.sampled_from([("mr",), ("ct",), ("mr", "ct"), ("mr", "mask")]))
@fuzzed(3)
def test_a_folder_of_anything(entries, required):
    image = base_image("i2", 1, "<", "both")
    with TemporaryDirectory() as name:
        root = Path(name, "data")
        root.mkdir()
        for around, own, suffix in entries:
            folder = root.joinpath(*around)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                path = folder / (own if suffix in ("/", "link", "loop") else own + suffix)
                if path.exists() or path.is_symlink():
                    continue
                if suffix in (".nii", ".nii.gz"):
                    nib.save(image, path)
                elif suffix in (".mha", ".nrrd"):
                    sitk.WriteImage(sitk.GetImageFromArray(np.asarray(image.dataobj).T), str(path))
                elif suffix == ".mgz":
                    nib.save(nib.MGHImage(np.asarray(image.dataobj), image.affine), path)
                elif suffix == "/":
                    path.mkdir()
                elif suffix == "link":
                    path.symlink_to(root / "gone")
                elif suffix == "loop":
                    path.symlink_to(root)
                else:
                    path.write_text('{"training": []}' if suffix == ".json" else "some,text\n1,2")
            except (OSError, RuntimeError, ValueError, nib.filebasedimages.ImageFileError):
                continue
        cases = outcome("folder", Path(name), lambda: find_cases(root, required))
        if cases is None:
            return
        assert len({case.name for case in cases}) == len(cases)
        for case in cases:
            for path in (case.mr, case.ct, case.mask):
                if path is not None:
                    volume = outcome("folder case", Path(name), lambda path=path: read_volume(path))
                    if volume is not None and path.suffix in (".gz", ".nii", ".mgz"):
                        assert same(volume, (np.asarray(image.dataobj), image.affine))
