"""DICOM series against the letter of the standard: read where the meaning is certain, said; else one sentence.

A row of the tables below is a row of docs/how-to/inputs.md. What is read must be what pydicom, highdicom or SimpleITK
read of the same series before it was spoilt, at the same place.
"""

import copy
import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medical_gans.errors import InputError
from medical_gans.io import find_cases, list_series, read_volume

OBLIQUE = (0.9541666, -0.2080757, 0.2151061, 0.2785886, 0.880128, -0.3843997)


def put(keyword, value, at=None):
    def change(k, image):
        if at is None or k == at:
            setattr(image, keyword, value(k) if callable(value) else value)

    return change


def drop(*keywords):
    def change(k, image):
        for keyword in keywords:
            if keyword in image:
                delattr(image, keyword)

    return change


def raw(keyword, written, vr):
    """Put a value as it stands, which pydicom would not write."""

    def change(k, image):
        content = (written(k) if callable(written) else written).encode("latin-1")
        content += b" " * (len(content) % 2)
        tag = Tag(pydicom.datadict.tag_for_keyword(keyword))
        image._dict[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True)

    return change


def every(*changes):
    def change(k, image):
        for one in changes:
            one(k, image)

    return change


# --- row 3: rescale without its other half, and other scales ---

SLOPES = (1.0, 1.25, 1.5, 2.0, 0.5)


def mapping(slope, intercept=0.0, unit="1") -> Dataset:
    item, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", "no units"
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, intercept
    item.MeasurementUnitsCodeSequence = [code]
    return item


def mapped(values, intercepts=(0, 0, 0, 0, 0)):
    return put("RealWorldValueMappingSequence", lambda k: [mapping(values[k], intercepts[k])])


def philips(values):
    def change(k, image):
        image.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", values[k])

    return change


SCALES = {
    "slope by slice, no intercept": (put("RescaleSlope", lambda k: SLOPES[k]), SLOPES, "RescaleIntercept is missing"),
    "slope by slice, empty intercept": (
        every(put("RescaleSlope", lambda k: SLOPES[k]), put("RescaleIntercept", None)),
        SLOPES,
        "RescaleIntercept is missing in 5 of 5 images; 0 was taken",
    ),
    "intercept without a slope": (put("RescaleIntercept", "0"), (1,) * 5, None),
    "an empty rescale": (every(put("RescaleSlope", None), put("RescaleIntercept", None)), (1,) * 5, None),
    "identity in some slices": (
        every(put("RescaleSlope", "1", 2), put("RescaleIntercept", "0", 2)),
        (1,) * 5,
        None,
    ),
    "mapping by slice": (mapped(SLOPES), SLOPES, "RealWorldValueMapping differs from slice to slice and was applied"),
    "mapping the same in all": (mapped((3,) * 5), (1,) * 5, None),
    "mapping like the rescale": (
        every(put("RescaleSlope", lambda k: SLOPES[k]), put("RescaleIntercept", 0), mapped([7 * s for s in SLOPES])),
        SLOPES,
        None,
    ),
    "Philips' scale like the rescale": (
        every(
            put("RescaleSlope", lambda k: SLOPES[k]),
            put("RescaleIntercept", 0),
            philips([0.004 / s for s in SLOPES]),
        ),
        SLOPES,
        None,
    ),
}
SCALES_IN_DOUBT = {
    "mapping by slice, rescale the same": (
        every(put("RescaleSlope", 1), put("RescaleIntercept", 0), mapped(SLOPES)),
        SLOPES,
        "the mapping was taken",
    ),
    "rescale by slice, mapping the same": (
        every(put("RescaleSlope", lambda k: SLOPES[k]), put("RescaleIntercept", 0), mapped((1,) * 5)),
        SLOPES,
        "RescaleSlope was taken",
    ),
    "Philips' scale by slice": (
        every(put("RescaleSlope", 1), put("RescaleIntercept", 0), philips(SLOPES)),
        (1,) * 5,
        "Philips' private scale",
    ),
}
SCALES_REFUSED = {
    "slope in some slices": (every(put("RescaleSlope", 2, 1), put("RescaleIntercept", 0)), "in 4 of 5 images"),
    "intercept in some slices": (every(put("RescaleSlope", 2), put("RescaleIntercept", 7, 1)), "in 4 of 5 images"),
    "slope is no number": (every(raw("RescaleSlope", "abc", "DS"), put("RescaleIntercept", 0)), "zero or no number"),
    "mapping in some slices": (put("RealWorldValueMappingSequence", [mapping(2)], 3), "in 1 of 5 images"),
    "mapping to several units": (
        put("RealWorldValueMappingSequence", lambda k: [mapping(SLOPES[k], unit="ms" if k else "s")]),
        "to one unit",
    ),
    "two scales by slice": (
        every(put("RescaleSlope", lambda k: k + 1), put("RescaleIntercept", 0), mapped(SLOPES)),
        "contradict each other",
    ),
}


@pytest.mark.parametrize(("change", "slopes", "words"), SCALES.values(), ids=SCALES)
def test_slices_are_scaled_by_what_their_headers_say(write_series, change, slopes, words):
    folder, pixels = write_series(change=change)
    volume = read_volume(folder)
    assert np.allclose(volume.array, (pixels * np.array(slopes)[:, None, None]).T)
    assert not volume.doubts and len(volume.repairs) == (0 if words is None else 1)
    assert words is None or words in volume.repairs[0]


@pytest.mark.parametrize(("change", "slopes", "words"), SCALES_IN_DOUBT.values(), ids=SCALES_IN_DOUBT)
def test_scales_that_contradict_each_other_are_a_doubt(write_series, change, slopes, words):
    folder, pixels = write_series(change=change)
    volume = read_volume(folder)
    assert np.allclose(volume.array, (pixels * np.array(slopes)[:, None, None]).T)
    assert len(volume.doubts) == 1 and words in volume.doubts[0]


@pytest.mark.parametrize(("change", "words"), SCALES_REFUSED.values(), ids=SCALES_REFUSED)
def test_slices_whose_scale_is_unknown_are_refused(write_series, change, words):
    with pydicom.config.disable_value_validation():
        folder, _ = write_series(change=change)
    with pytest.raises(InputError, match=words):
        read_volume(folder)


# --- row 4: rounded positions and directions ---


def rounded(places, spacing=7.01, orientation=OBLIQUE, cosines=7):
    axes = np.reshape(orientation, (2, 3))
    normal = np.cross(*axes) / np.linalg.norm(np.cross(*axes))

    def change(k, image):
        position = np.array([-20.0, -30.0, 40.0]) + k * spacing * normal
        raw("ImagePositionPatient", "\\".join(f"{value:.{places}f}" for value in position), "DS")(k, image)
        raw("ImageOrientationPatient", "\\".join(f"{value:.{cosines}f}" for value in orientation), "DS")(k, image)

    return change, normal


@pytest.mark.parametrize(
    ("places", "cosines", "spacing"),
    [(1, 6, 7.01), (1, 6, 3.3), (0, 6, 7.013), (3, 2, 7.01), (2, 3, 1.5), (1, 2, 6.5), (0, 6, 4.5), (1, 6, 0.45)],
)
def test_rounded_positions_and_directions_give_the_grid_that_they_were_rounded_from(
    write_series, places, cosines, spacing
):
    change, normal = rounded(places, spacing, cosines=cosines)
    folder, pixels = write_series(orientation=OBLIQUE, slices=24, change=change)
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T)
    assert places > 1 or "off the regular grid that was taken" in " ".join(volume.repairs)
    axes = volume.affine[:3, :3] / volume.spacing
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    allowed = 10.0**-places + 24 * spacing * 3e-4 + 10.0**-cosines * 8
    for k in (0, 11, 23):
        true = (np.array([-20.0, -30.0, 40.0]) + k * spacing * normal) * [-1, -1, 1]
        assert np.abs((volume.affine @ [0, 0, k, 1])[:3] - true).max() < allowed
    assert volume.spacing[2] == pytest.approx(spacing, rel=0.01)


def test_a_series_that_jitters_from_6_96_to_7_07_mm_is_read_with_its_largest_deviation(write_series):
    random = np.random.default_rng(5)
    offsets = [round(float(random.uniform(-0.055, 0.055)), 4) for _ in range(30)]

    def change(k, image):
        image.ImagePositionPatient = [-20, -30, round(40 + 7.0 * k + offsets[k], 4)]

    folder, pixels = write_series(slices=30, change=change)
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T) and volume.spacing[2] == pytest.approx(7, abs=0.01)
    assert volume.repairs == () or "mm off the regular grid" in volume.repairs[0]


def test_a_missing_slice_is_a_gap_however_positions_are_rounded(write_series):
    change, _ = rounded(0)

    def without_one(k, image):
        change(k, image)
        if k == 11:
            vars(image)["left_out"] = True

    folder, _ = write_series(orientation=OBLIQUE, slices=24, change=without_one)
    with pytest.raises(InputError, match=r"gap of 14\..* mm between slices 11 and 12"):
        read_volume(folder)


@pytest.mark.parametrize("slices", [3, 4, 5, 7, 12, 40])
@pytest.mark.parametrize("spacing", [0.3, 0.45, 0.7, 1.2])
def test_no_rounding_hides_a_missing_slice(write_series, slices, spacing):
    change, _ = rounded(1, spacing)
    for lost in {1, slices // 2, slices - 1}:

        def without_one(k, image, lost=lost):
            change(k, image)
            if k == lost:
                vars(image)["left_out"] = True

        folder, _ = write_series(
            orientation=OBLIQUE, slices=slices + 1, change=without_one, folder=f"{lost}", uid="1.2.3.100"
        )
        with pytest.raises(InputError, match=r"gap|uneven slice spacing"):
            read_volume(folder)


def test_a_tilt_is_a_tilt_however_directions_are_rounded(write_series):
    def change(k, image):
        image.ImagePositionPatient = [-20, round(-30 + 2.5 * k * np.tan(np.radians(2)), 3), 40 + 2.5 * k]
        raw("ImageOrientationPatient", "1.00\\0.00\\0.00\\0.00\\1.00\\0.00", "DS")(k, image)

    folder, _ = write_series(slices=20, change=change)
    with pytest.raises(InputError, match=r"tilted: .* 2\.0 degrees"):
        read_volume(folder)


def test_pixel_spacings_of_other_decimals_are_one(write_series):
    folder, pixels = write_series(change=put("PixelSpacing", ["0.77", "1.25"], 2))
    with pytest.raises(InputError, match="mixes pixel spacings"):
        read_volume(folder)
    folder, pixels = write_series(folder="rounded", change=put("PixelSpacing", ["0.7500001", "1.2500003"], 2))
    assert np.array_equal(read_volume(folder).array, pixels.T)
    folder, pixels = write_series(
        folder="coarse", change=raw("PixelSpacing", lambda k: "0.746\\1.25" if k else "0.75\\1.25", "DS")
    )
    volume = read_volume(folder)
    assert volume.spacing[1] == pytest.approx(0.746) and "rounded differently" in volume.repairs[0]


# --- row 8: files that lack what every file has ---


def rewritten(folder: Path, change) -> None:
    for path in folder.glob("*.dcm"):
        change(path)


def without_preamble(path):
    path.write_bytes(path.read_bytes()[132:])


def bare(syntax):
    """Only the data set, as in files of before 1993."""

    def change(path):
        image = pydicom.dcmread(path)
        image.file_meta = FileMetaDataset()
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        pydicom.dcmwrite(path, image, implicit_vr=implicit, little_endian=little, force_encoding=True)

    return change


def without_syntax(path):
    image = pydicom.dcmread(path)
    del image.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(path, image, implicit_vr=False, little_endian=True, force_encoding=True)
    content = path.read_bytes()
    if content[128:132] != b"DICM":
        path.write_bytes(bytes(128) + b"DICM" + content)


LACKING = {
    "preamble": without_preamble,
    "preamble and meta header, implicit": bare(ImplicitVRLittleEndian),
    "preamble and meta header, explicit": bare(pydicom.uid.ExplicitVRLittleEndian),
    "preamble and meta header, big endian": bare(ExplicitVRBigEndian),
    "transfer syntax": without_syntax,
}


@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("change", LACKING.values(), ids=LACKING)
def test_files_without_a_beginning_are_read(write_series, change, suffix):
    folder, pixels = write_series()
    expected = read_volume(folder).affine
    rewritten(folder, change)
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(suffix))
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T) and np.allclose(volume.affine, expected)
    (case,) = find_cases(folder)
    assert np.array_equal(read_volume(case.mr_source).array, pixels.T)


def test_compressed_files_without_a_transfer_syntax_show_it_themselves(write_series):
    folder, pixels = write_series(change=lambda k, image: image.compress(RLELossless))
    rewritten(folder, without_syntax)
    assert np.array_equal(read_volume(folder).array, pixels.T)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_images_without_a_series_uid_are_one_series(write_series, how):
    change = drop("SeriesInstanceUID") if how == "missing" else put("SeriesInstanceUID", "")
    folder, pixels = write_series(change=change)
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T)
    assert "no SeriesInstanceUID; they count as one series" in volume.repairs[0]


@pytest.mark.parametrize("uid", ["1.3.46.670589.11.0.0.12.1", "1.3.12.2.1107.5.99.1", ""])
def test_an_mr_of_a_private_class_or_none_is_read(write_series, uid):
    def change(k, image):
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = UID(uid or "1.2.840.10008.5.1.4.1.1.4")
        if not uid:
            del image.SOPClassUID

    folder, pixels = write_series(change=change)
    assert np.array_equal(read_volume(folder).array, pixels.T)
    assert len(find_cases(folder)) == 1


def test_private_objects_without_pixels_are_passed_over(write_series):
    folder, pixels = write_series()
    other = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = UID("1.3.12.2.1107.5.9.1")
    for keyword in ("Rows", "Columns", "BitsAllocated"):
        delattr(other, keyword)
    other.save_as(folder / "csa.dcm")
    assert np.array_equal(read_volume(folder).array, pixels.T)


# --- row 12: transfer syntaxes ---

BY_GDCM = {
    "JPEG Extended, 12 bits": "JPEGExtendedProcess2_4",
    "JPEG Lossless": "JPEGLosslessProcess14",
    "JPEG Lossless, first-order": "JPEGLosslessProcess14_1",
    "JPEG-LS": "JPEGLSLossless",
    "JPEG 2000, lossless": "JPEG2000Lossless",
    "JPEG 2000": "JPEG2000",
    "RLE": "RLELossless",
    "implicit": "ImplicitVRLittleEndian",
    "big endian": "ExplicitVRBigEndian",
}


@pytest.mark.parametrize("syntax", BY_GDCM.values(), ids=BY_GDCM)
def test_every_syntax_that_the_docs_promise_is_read(tmp_path, write_series, syntax):
    gdcm = pytest.importorskip("gdcm", exc_type=ImportError)
    smooth = (np.add.outer(np.arange(32), np.arange(48) * 20) + 100).astype(np.int16)

    def twelve_bits(k, image):
        image.Rows, image.Columns, image.PixelData = 32, 48, (smooth + 10 * k).tobytes()
        image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, 0

    folder, _ = write_series(change=twelve_bits)
    for path in folder.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    volume = read_volume(folder)
    expected = np.stack([smooth + 10 * k for k in range(5)], axis=-1).transpose(1, 0, 2)
    assert np.abs(volume.array.astype(int) - expected).max() <= (
        2 if syntax in ("JPEGExtendedProcess2_4", "JPEG2000") else 0
    )


def test_high_throughput_jpeg_2000_is_read(write_series):
    """Encoded by OpenJPH inside imagecodecs; pydicom decodes it where pylibjpeg is there (the extra dicom)."""
    imagecodecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("openjpeg")
    folder, pixels = write_series()
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = encapsulate([imagecodecs.htj2k_encode(image.pixel_array, reversible=True)])
        image.file_meta.TransferSyntaxUID = HTJ2KLossless
        image.save_as(path)
    assert np.array_equal(read_volume(folder).array, pixels.T)


def test_a_compression_without_a_codec_is_refused_by_its_name(write_series, monkeypatch):
    folder, _ = write_series()
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        image.file_meta.TransferSyntaxUID = HTJ2KLossless
        image.save_as(path)
    monkeypatch.setattr("medical_gans.io.dicom.pixels._can_decode", lambda syntax: False)
    with pytest.raises(InputError, match=r"High-Throughput JPEG 2000.*pip install 'medical-gans\[dicom\]'|damaged"):
        read_volume(folder)


def test_deflated_files_are_read(write_series):
    def change(k, image):
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    folder, pixels = write_series("CT", change=change)
    assert np.array_equal(read_volume(folder).array, pixels.T - 1024)


# --- row 13: values against the letter ---

AGAINST_THE_LETTER = {
    "decimal commas": (
        every(
            raw("PixelSpacing", "0,75\\1,25", "DS"),
            raw("ImagePositionPatient", lambda k: f"-20,0\\-30\\{40 + 2.5 * k}".replace(".", ","), "DS"),
        ),
        "ImagePositionPatient, PixelSpacing: decimal commas were read as points",
    ),
    "series number 3.1/2": (raw("SeriesNumber", "3.1/2", "IS"), None),
    "UIDs anonymized": (
        every(raw("StudyInstanceUID", "anonymized", "UI"), raw("FrameOfReferenceUID", "anonymized", "UI")),
        None,
    ),
    "dates malformed": (every(raw("StudyDate", "2020-13-99", "DA"), raw("AcquisitionTime", "noon", "TM")), None),
    "empty strings": (every(put("StudyDate", ""), put("EchoTime", None), put("SeriesNumber", None)), None),
    "unknown character set": (raw("SpecificCharacterSet", "ISO_IR 999", "CS"), None),
    "modality in small letters": (raw("Modality", "mr", "CS"), None),
    "number of frames 1.0": (raw("NumberOfFrames", "1.0", "IS"), None),
    "echo time is no number": (raw("EchoTime", "short", "DS"), None),
    "blanks and zeros around numbers": (
        raw("ImagePositionPatient", lambda k: f" -20 \\-30\\ {40 + 2.5 * k}\0", "DS"),
        None,
    ),
}


@pytest.mark.parametrize(("change", "words"), AGAINST_THE_LETTER.values(), ids=AGAINST_THE_LETTER)
def test_values_against_the_letter_are_read_without_a_word_on_the_screen(write_series, caplog, capfd, change, words):
    with pydicom.config.disable_value_validation():
        folder, pixels = write_series(change=change)
    caplog.clear()
    capfd.readouterr()  # what writing them said
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        volume = read_volume(folder)
        list_series(folder)
    assert np.array_equal(volume.array, pixels.T)
    assert np.allclose((volume.affine @ [0, 0, 4, 1])[:3], [20, 30, 50]) and volume.spacing == pytest.approx(
        (1.25, 0.75, 2.5)
    )
    assert volume.repairs == (() if words is None else (f"{words}.",))
    assert not caught and not caplog.records and not capfd.readouterr().err


@pytest.mark.parametrize(
    "keyword",
    [
        *("PixelSpacing", "ImagePositionPatient", "SamplesPerPixel", "PixelPaddingValue", "RescaleSlope", "Modality"),
        *("RealWorldValueMappingSequence", "PerFrameFunctionalGroupsSequence", "SOPClassUID", "PixelData"),
    ],
)
def test_an_element_of_an_unknown_kind_ends_in_the_volume_or_in_a_sentence(write_series, keyword):
    def change(k, image):
        image.PixelPaddingValue, image.RescaleSlope, image.RescaleIntercept = 0, "1", "0"
        image.RealWorldValueMappingSequence = [mapping(1.0)]

    folder, pixels = write_series(change=change)
    tag = Tag(pydicom.datadict.tag_for_keyword(keyword))
    begin = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    path = sorted(folder.iterdir())[1]
    content = path.read_bytes()
    at = content.find(begin)
    path.write_bytes(content[: at + 4] + b"D\x84" + content[at + 6 :] if at > 0 else content)
    try:
        assert np.array_equal(read_volume(folder).array, pixels.T)
    except InputError as error:
        assert len(str(error).split()) > 5
    list_series(folder)


# --- row 16: several things in one folder or series ---


def interleaved(tell):
    """Two volumes in one series, told apart by what `tell(part)` sets."""

    def change(k, image):
        part = k % 2
        image.ImagePositionPatient = [-20, -30, 40 + 2.5 * (k // 2)]
        for keyword, value in tell(part).items():
            setattr(image, keyword, value)

    return change


SEVERAL = {
    "echoes": (lambda p: {"EchoNumbers": p + 1, "EchoTime": [4.6, 2.3][p]}, "echo 2"),
    "echo times": (lambda p: {"EchoTime": [4.6, 12][p]}, "TE 12"),
    "Dixon": (lambda p: {"ImageType": ["DERIVED", "PRIMARY", "DIXON", ["FAT", "WATER"][p]]}, "water"),
    "phase": (lambda p: {"ImageType": ["ORIGINAL", "PRIMARY", ["M", "P"][p]]}, "P"),
    "time points": (lambda p: {"TemporalPositionIdentifier": p + 1}, "time 2"),
    "b values": (lambda p: {"DiffusionBValue": [0.0, 800.0][p]}, "b 800"),
    "acquisitions": (lambda p: {"AcquisitionNumber": p + 1}, "acquisition 2"),
    "stacks": (lambda p: {"StackID": str(p + 1)}, "stack 2"),
    "inversion times": (lambda p: {"InversionTime": [400, 900][p]}, "TI 900"),
    "flip angles": (lambda p: {"FlipAngle": [5, 15][p]}, "flip 15"),
}


@pytest.mark.parametrize(("tell", "words"), SEVERAL.values(), ids=SEVERAL)
def test_a_stack_is_chosen_by_words_of_its_header(write_series, tell, words):
    folder, pixels = write_series(slices=10, change=interleaved(tell))
    with pytest.raises(InputError, match="choose one by select") as raised:
        read_volume(folder)
    listed = [line.split('"')[1] for line in str(raised.value).splitlines() if line.startswith('  "')]
    assert len(listed) == 2 and any(words.lower() in one.lower() for one in listed)
    for part, label in enumerate(listed):
        found = read_volume(folder, select=label)
        assert any(np.array_equal(found.array, pixels[start::2].T) for start in (0, 1)), (part, label)
    volume = read_volume(folder, select=words)
    assert np.array_equal(volume.array, pixels[1::2].T)
    assert "5 of 10 images of the series are of other stacks" in volume.repairs[0]
    if "EchoNumbers" in tell(0):  # told apart by another attribute, which all images of the echo have
        assert np.array_equal(read_volume(folder, select="TE 2.3").array, pixels[1::2].T)
    with pytest.raises(InputError, match=r'no stacks named "nothing"') as raised:
        read_volume(folder, select="nothing")
    assert all(f'"{one}"' in str(raised.value) for one in listed)


def test_words_that_all_images_say_choose_them_all(write_series):
    folder, pixels = write_series(change=put("ImageType", ["DERIVED", "PRIMARY", "DIXON", "WATER"]))
    assert np.array_equal(read_volume(folder, select="water").array, pixels.T)
    with pytest.raises(InputError, match=r'nothing to select "fat" from'):
        read_volume(folder, select="fat")


def test_a_localizer_in_the_series_is_passed_over_and_named(write_series):
    def change(k, image):
        image.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
        if k >= 8:
            image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
            image.ImageOrientationPatient = [[0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]][k - 8]

    folder, pixels = write_series(slices=10, change=change)
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels[:8].T)
    assert "2 of 10 images of the series are of other stacks" in volume.repairs[0]


def test_orientations_in_one_series_are_chosen_by_their_plane(write_series):
    def change(k, image):
        if k % 2:
            image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            image.ImagePositionPatient = [-20 + 2.5 * k, -30, 40]

    folder, pixels = write_series(slices=10, change=change)
    with pytest.raises(InputError, match=r'2 orientations(.|\n)*"axial"(.|\n)*"sagittal"'):
        read_volume(folder)
    assert np.array_equal(read_volume(folder, select="axial").array, pixels[::2].T)
    assert read_volume(folder, select="sagittal").array.shape == (4, 6, 5)


def screenshot(k, image):
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image.SeriesDescription = "screen"


BESIDE = {
    "a screenshot": dict(slices=1, change=screenshot),
    "screenshots": dict(slices=3, change=screenshot),
    "a CT": dict(modality="CT"),
    "a localizer": dict(slices=3, change=put("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
    "a mosaic": dict(slices=3, change=put("ImageType", ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])),
    "a single image": dict(slices=1),
}


@pytest.mark.parametrize("other", BESIDE.values(), ids=BESIDE)
def test_the_one_mr_of_a_folder_is_taken_and_the_rest_named(write_series, other):
    folder, pixels = write_series()
    write_series(folder="series", uid="1.2.3.900", **other)
    volume = read_volume(folder, modality="MR")
    assert np.array_equal(volume.array, pixels.T) and volume.modality == "MR"
    assert volume.repairs[0].startswith("Passed over beside this series: ") and "images of 4 x 6" in volume.repairs[0]


def test_two_mr_of_a_folder_are_chosen_by_their_descriptions(write_series):
    _, water = write_series(change=every(put("SeriesDescription", "t1_dixon_W"), put("SeriesNumber", 5)))
    folder, fat = write_series(
        uid="1.2.3.300", slices=6, change=every(put("SeriesDescription", "t1_dixon_F"), put("SeriesNumber", 6))
    )
    with pytest.raises(InputError, match="holds 2 DICOM series; one is needed") as raised:
        read_volume(folder, modality="MR")
    listed = [line.split('"')[1] for line in str(raised.value).splitlines() if line.startswith('  "')]
    assert listed == ["t1_dixon_W", "t1_dixon_F"] and f'--select "{listed[0]}"' in str(raised.value)
    for select, pixels in (("dixon w", water), ("series 6", fat), ("t1_dixon_F", fat), ("1.2.3.300", fat)):
        assert np.array_equal(read_volume(folder, select=select, modality="MR").array, pixels.T)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, None])
def test_pixels_that_begin_with_their_own_length_are_read_behind_it(write_series, syntax):
    folder, pixels = write_series()
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData = len(image.PixelData).to_bytes(4, "little") + image.PixelData
        image.file_meta.TransferSyntaxUID = syntax or ExplicitVRLittleEndian
        image.save_as(path)
        if syntax is None:
            without_syntax(path)
    assert np.array_equal(read_volume(folder, modality="MR").array, pixels.T)


def test_bytes_behind_the_pixels_are_left(write_series):
    folder, pixels = write_series()
    for path in folder.iterdir():
        image = pydicom.dcmread(path)
        image.PixelData += b"\x07\x00\x09\x00"
        image.save_as(path)
    assert np.array_equal(read_volume(folder, modality="MR").array, pixels.T)


@pytest.mark.parametrize("keyword", ["Modality", "SeriesDescription", "SeriesInstanceUID"])
def test_a_spoilt_length_shows_no_name_that_it_took_in(write_series, keyword):
    """A length too long takes the elements behind it for its own value; the message shows the text before them."""
    taken_in = ["t1\x08\x00\x3e\x10\x0c\x00\x00\x00Planted^Name\x10\x00\x20\x00\x00\x00planted-id ", "-24.6"]

    def spoilt(k, image):
        if k == 2:
            image.SeriesInstanceUID = "1.2.3.900"
            with pydicom.config.disable_value_validation():
                setattr(image, keyword, taken_in)

    folder, _ = write_series(change=spoilt)
    write_series(uid="1.2.3.300", slices=6)
    with pytest.raises(InputError) as raised:
        read_volume(folder, modality="CT")
    assert "planted" not in str(raised.value).lower() and "\\x" not in str(raised.value)


@pytest.mark.parametrize("alike", [{}, {"SeriesDescription": "t1"}, {"SeriesNumber": 3}])
def test_the_words_offered_for_a_series_name_that_one(write_series, alike):
    """Whatever series share, what the refusal says is typed chooses one."""
    made = {}
    for number in (1, 2, 11):
        change = every(put("SeriesDescription", f"t1, part {number}"), put("SeriesNumber", number))
        change = every(change, *(put(keyword, value) for keyword, value in alike.items()))
        folder, made[f"1.2.3.{number}"] = write_series(uid=f"1.2.3.{number}", slices=4 + number % 5, change=change)
    with pytest.raises(InputError, match="one is needed") as raised:
        read_volume(folder, modality="MR")
    lines = [line for line in str(raised.value).splitlines() if line.startswith('  "')]
    assert len(lines) == 3
    for line in lines:
        words, uid = line.split('"')[1], line.split()[-1]
        assert np.array_equal(read_volume(folder, select=words, modality="MR").array, made[uid].T)


def test_frames_of_an_enhanced_file_are_chosen_by_their_stack(write_series, tmp_path):
    import highdicom

    folder, pixels = write_series(orientation=OBLIQUE, slices=8)
    single = []
    for path in sorted(folder.iterdir()):
        image = pydicom.dcmread(path)
        image.StudyDate, image.StudyTime, image.StudyID, image.SeriesNumber = "20200102", "101112", "7", 3
        image.AccessionNumber, image.PatientBirthDate, image.PatientSex, image.Laterality = "", "", "", ""
        image.ReferringPhysicianName = image.PositionReferenceIndicator = None
        image.Manufacturer, image.SliceThickness = "Scanner works", "2.5"
        image.ImageType, image.ContentDate, image.ContentTime = ["ORIGINAL", "PRIMARY", "OTHER"], "20200102", "101500"
        image.AcquisitionDateTime, image.PatientID, image.PatientName = "20200102101500", "1", "n"
        single.append(image)
    made = highdicom.legacy.LegacyConvertedEnhancedMRImage(single, "2.25.7", 1, "2.25.8", 1)
    for groups in made.PerFrameFunctionalGroupsSequence:
        groups.FrameContentSequence[0].TemporalPositionIndex = 1
    doubled = pydicom.Dataset()
    doubled.update(made)
    doubled.file_meta = made.file_meta
    second = copy.deepcopy(list(made.PerFrameFunctionalGroupsSequence))
    for groups in second:
        groups.FrameContentSequence[0].TemporalPositionIndex = 2
    doubled.PerFrameFunctionalGroupsSequence = [*made.PerFrameFunctionalGroupsSequence, *second]
    doubled.NumberOfFrames = 16
    stored = np.frombuffer(made.PixelData, np.int16)
    doubled.PixelData = np.concatenate([stored, stored + 7]).astype(np.int16).tobytes()
    doubled.save_as(tmp_path / "enhanced.dcm")
    with pytest.raises(InputError, match=r'differ in TemporalPositionIndex(.|\n)*"time 1"(.|\n)*"time 2"'):
        read_volume(tmp_path / "enhanced.dcm")
    assert np.array_equal(read_volume(tmp_path / "enhanced.dcm", select="time 1").array, pixels.T)
    assert np.array_equal(read_volume(tmp_path / "enhanced.dcm", select="time 2").array, pixels.T + 7)


# --- row 17: padding ---


@pytest.mark.parametrize(("signed", "value"), [(1, -2000), (0, 65535), (1, 32767), (0, 63536)])
def test_padding_of_an_mr_is_background(write_series, signed, value):
    def change(k, image):
        stored = np.frombuffer(image.PixelData, np.int16).reshape(6, 4).astype(np.int64) + 5
        stored[:2] = value
        image.PixelRepresentation = signed
        image.PixelData = stored.astype(np.int16 if signed else np.uint16).tobytes()
        raw_vr = "SS" if signed else "US"
        image.add_new(0x00280120, raw_vr, value)

    folder, pixels = write_series(change=change)
    volume = read_volume(folder)
    expected = pixels.astype(int) + 5
    low = expected[:, 2:].min()
    expected[:, :2] = low
    assert np.array_equal(volume.array, expected.T)
    assert f"40 voxels of padding (PixelPaddingValue) count as background ({low})" in volume.repairs[0]


def test_a_padding_of_zero_changes_nothing(write_series):
    folder, pixels = write_series(change=lambda k, image: image.add_new(0x00280120, "SS", 0))
    volume = read_volume(folder)
    assert np.array_equal(volume.array, pixels.T) and not volume.repairs


# --- what comes out of odd headers is legal ---


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
@pytest.mark.parametrize(
    "change",
    [
        raw("SeriesNumber", "3.1/2", "IS"),
        raw("SpecificCharacterSet", "ISO_IR 999", "CS"),
        raw("PatientName", "Müller^Jörg", "PN"),
        raw("StudyDate", "2020-13-99", "DA"),
        raw("PatientSex", "W", "CS"),
        raw("PatientWeight", "70,5", "DS"),
        raw("PatientWeight", "70.123456789012345678", "DS"),
        raw("PatientAge", "45", "AS"),
        raw("SeriesInstanceUID", "anonymized", "UI"),
        drop("SeriesInstanceUID"),
        drop("PatientID"),
        raw("StudyID", "x" * 20, "SH"),
        every(put("PatientName", ""), put("StudyTime", ""), put("AccessionNumber", "")),
    ],
)
def test_a_ct_made_from_odd_headers_is_legal(write_series, tmp_path, change):
    import subprocess

    from medical_gans.io.dicom import write_ct_series

    def legal(k, image):
        image.StudyInstanceUID = "1.2.3.1"
        change(k, image)

    with pydicom.config.disable_value_validation():
        folder, _ = write_series(change=legal)
    mr = read_volume(folder)
    made = write_ct_series(mr.array.astype(np.int16) - 1000, mr.affine, mr.headers, tmp_path / "out")
    path = next((made.folder / "ct").iterdir())
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace").stderr
    errors = [line for line in said.splitlines() if line.startswith("Error") and "0x0008,0x001c" not in line.lower()]
    assert not errors, "\n".join(errors)


# --- MONOCHROME1: how an image is shown, not what is stored ---


@pytest.mark.parametrize("bright", [False, True])
def test_an_mr_to_be_shown_inverted_is_read_as_stored_unless_its_background_is_bright(write_series, bright):
    def change(k, image):
        image.PhotometricInterpretation = "MONOCHROME1"
        stored = np.zeros((12, 10), np.int16)
        stored[3:9, 2:8] = 400 + 10 * k + np.arange(36).reshape(6, 6)
        image.Rows, image.Columns = stored.shape
        image.PixelData = (1000 - stored if bright else stored).astype(np.int16).tobytes()

    folder, _ = write_series(slices=9, change=change)
    volume = read_volume(folder)
    pixels = np.stack([pydicom.dcmread(path).pixel_array.T for path in sorted(folder.iterdir())])
    low, high = int(pixels.min()), int(pixels.max())
    first = volume.headers[0]
    path = next(one for one in folder.iterdir() if pydicom.dcmread(one).SOPInstanceUID == first.SOPInstanceUID)
    stored = pydicom.dcmread(path).pixel_array.T
    assert np.array_equal(volume.array[..., 0], low + high - stored if bright else stored)
    assert volume.array[0, 0, 0] == low and volume.array.dtype == np.int16
    assert ("negatives" if bright else "shown inverted") in volume.doubts[0]


def test_a_ct_to_be_shown_inverted_keeps_its_hounsfield_units(write_series):
    folder, pixels = write_series("CT", change=put("PhotometricInterpretation", "MONOCHROME1"))
    assert np.array_equal(read_volume(folder).array, pixels.T - 1024)
