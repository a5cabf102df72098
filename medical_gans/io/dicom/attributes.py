"""What a derived series keeps of its source and what it says of itself, attribute by attribute.

Objects are built from nothing: only what is named here enters them, so no private tag and no MR acquisition
attribute slips into a CT.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom import DataElement, Dataset
from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID, CTImageStorage, MRImageStorage
from pydicom.valuerep import format_number_as_ds, validate_value

from medical_gans import __version__
from medical_gans.errors import InputError
from medical_gans.io.dicom.headers import text, whole

PATIENT_AND_STUDY = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "OtherPatientIDs"),
    *("OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientNames"),
    *("EthnicGroup", "PatientComments", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("PatientBreedDescription", "PatientBreedCodeSequence", "BreedRegistrationSequence", "ResponsiblePerson"),
    *("ResponsiblePersonRole", "ResponsibleOrganization"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    *("ClinicalTrialTimePointDescription",),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified",),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence"),
    *("StudyDescription", "ReferringPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    *("ReferencedStudySequence", "ProcedureCodeSequence", "AdmittingDiagnosesDescription"),
    *("PatientAge", "PatientSize", "PatientWeight", "PatientBodyMassIndex", "AdditionalPatientHistory"),
    *("PregnancyStatus", "PatientSexNeutered", "TimezoneOffsetFromUTC"),
)
FRAME_AND_ACQUISITION = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "BodyPartExamined", "Laterality"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
)
MR_ACQUISITION = (
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag"),
    *("RepetitionTime", "EchoTime", "InversionTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus"),
    *("EchoNumbers", "MagneticFieldStrength", "EchoTrainLength", "FlipAngle", "TriggerTime", "ContrastBolusAgent"),
)
_PRESENT_IN_EVERY_OBJECT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_ENUMERATED = {
    "PatientSex": ("M", "F", "O"),
    "Laterality": ("R", "L"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "PregnancyStatus": (1, 2, 3, 4),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
    "MRAcquisitionType": ("2D", "3D"),
    "AngioFlag": ("Y", "N"),
    "PatientPosition": (
        *(ends + side for ends in ("HF", "FF") for side in ("P", "DR", "S", "DL")),
        *("LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL", "SITTING"),
    ),
}
_EMPTY_IN_AN_MR = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
_NEEDED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition")
NEEDED_TO_REFER = (*_NEEDED, "SeriesInstanceUID")  # by objects that name the series itself
_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    *("InstitutionName", "StationName"),
)
_LARGEST_NUMBER = 2**31 - 1


def check_source(headers: Sequence[Dataset]) -> None:
    """Refuse source headers from which no series of the same study and frame of reference can be derived.

    Raises:
        InputError: as `why_untied` says.
    """
    if reason := why_untied(headers):
        raise InputError(
            f"{reason} Export the MR from its source again, or set write_dicom to false to get NIfTI only."
        )


def why_untied(headers: Sequence[Dataset], needed: Sequence[str] = _NEEDED) -> str | None:
    """Why no object can be derived that belongs to these images: a sentence; None where one can.

    One of the attributes `needed` is missing, is none by the rules of DICOM, or differs between slices, or the
    PatientID does, or an image has no UID to be named by.
    """
    if not all(_may_be_named(header) for header in headers):
        return "The MR has images without a legal SOPInstanceUID, so no DICOM object can be tied to it."
    for keyword in (*needed, "PatientID"):
        values = {text(header, keyword) for header in headers}
        if len(values) > 1:
            return f"The MR has {len(values)} different values of {keyword}, so no DICOM object can be tied to it."
        if keyword in needed and values == {""}:
            return f"The MR has no {keyword}, so no DICOM object can be tied to it."
        if keyword in headers[0] and not _is_legal(headers[0][keyword]):
            return f"The MR has a {keyword} that DICOM does not allow, so no DICOM object can be tied to it."
    return None


def illegal_values(header: Dataset) -> list[str]:
    """Keywords of what a derived object would keep, had it not a value that DICOM forbids (such as one too long)."""
    wanted = set(PATIENT_AND_STUDY + FRAME_AND_ACQUISITION)
    return sorted(keyword for keyword in wanted if keyword in header and not _is_legal(header[keyword]))


def patient_and_study(header: Dataset) -> Dataset:
    """The identity of patient and study, the same in every object of the study."""
    kept = _kept(header, PATIENT_AND_STUDY)
    if not _tells_its_characters(kept):
        kept.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _PRESENT_IN_EVERY_OBJECT:
        if keyword not in kept:
            setattr(kept, keyword, None)
    return kept


def derived_series(
    headers: Sequence[Dataset], series_uid: str, description: str, number_offset: int, moment: datetime
) -> Dataset:
    """All that the images of a derived series have in common, whatever their modality."""
    source = headers[0]
    image = patient_and_study(source)
    image.update(_kept(source, FRAME_AND_ACQUISITION))
    if "PositionReferenceIndicator" not in image:
        image.PositionReferenceIndicator = None
    if "BodyPartExamined" not in image and "Laterality" not in image:
        image.Laterality = None
    image.SeriesInstanceUID = series_uid
    image.SeriesNumber = series_number(source, number_offset)
    image.SeriesDescription = description
    stamp(image, moment)
    image.BurnedInAnnotation = "NO"
    image.ContentQualification = "RESEARCH"
    _say_lossy(image, headers)
    image.ContributingEquipmentSequence = [_acquisition_equipment(source), _this_program(moment)]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    return image


def ct_image(headers: Sequence[Dataset], series_uid: str, description: str, moment: datetime) -> Dataset:
    """What all images of a synthetic CT series have in common."""
    image = derived_series(headers, series_uid, description, 1000, moment)
    image.SOPClassUID = CTImageStorage
    image.Modality = "CT"
    image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    image.KVP = None
    image.AcquisitionNumber = None
    image.SyntheticData = "YES"
    image.DerivationDescription = (
        f"Synthetic CT estimated from MR by a neural network (medical-gans {__version__}). For research use only."
    )
    image.PixelRepresentation = 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "-1024", "1", "HU"
    image.WindowCenter, image.WindowWidth = "40", "400"
    return image


def mr_image(headers: Sequence[Dataset], series_uid: str, description: str, moment: datetime) -> Dataset:
    """What all images of a resampled MR series have in common."""
    image = derived_series(headers, series_uid, description, 2000, moment)
    kept = _kept(headers[0], MR_ACQUISITION)
    image.update({element.tag: element for element in kept if element.value not in (None, "")})
    image.SOPClassUID = MRImageStorage
    image.Modality = "MR"
    image.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    image.DerivationDescription = f"MR resampled to an axial grid by linear interpolation (medical-gans {__version__})."
    for keyword in ("ScanningSequence", "SequenceVariant"):
        if not image.get(keyword):
            setattr(image, keyword, {"ScanningSequence": "RM", "SequenceVariant": "NONE"}[keyword])
    for keyword in _EMPTY_IN_AN_MR:
        if keyword not in image:
            setattr(image, keyword, None)
    return image


def series_number(source: Dataset, offset: int) -> int:
    """The number of a derived series: that of its source, if it has one, and an offset."""
    number = (whole(source, "SeriesNumber") or 0) + offset
    return number if abs(number) <= _LARGEST_NUMBER else offset


def stamp(image: Dataset, moment: datetime) -> None:
    """Say which program made an object and when, in the time zone that the object names."""
    offset = str(image.get("TimezoneOffsetFromUTC") or "")
    if len(offset) == 5 and offset[1:].isdigit():
        zone = timedelta(hours=int(offset[1:3]), minutes=int(offset[3:])) * (-1 if offset[0] == "-" else 1)
        moment = moment.astimezone(timezone(zone))
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    image.InstanceCreationDate = image.SeriesDate = image.ContentDate = date
    image.InstanceCreationTime = image.SeriesTime = image.ContentTime = time
    image.Manufacturer = "medical-gans"
    image.ManufacturerModelName = "medical-gans mr_to_ct"
    image.SoftwareVersions = __version__


def code_item(code: Code) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def instance_reference(header: Dataset) -> Dataset:
    """A reference to the image (or the frame of a multi-frame image) that a header belongs to."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if "ReferencedFrameNumber" in header:  # set by our own intake of multi-frame files
        item.ReferencedFrameNumber = header.ReferencedFrameNumber
    return item


def references_to(sources: Sequence[Dataset]) -> Dataset:
    """What names the images that an image was computed from; nothing of what has no legal UID."""
    purpose = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    named = [header for header in sources if _may_be_named(header)]
    items = []
    for header in named:
        item = instance_reference(header)
        item.PurposeOfReferenceCodeSequence = purpose
        items.append(item)
    references = Dataset()
    if items:
        references.SourceImageSequence = items
    if items and UID(text(sources[0], "SeriesInstanceUID")).is_valid:
        series = Dataset()
        series.SeriesInstanceUID = sources[0].SeriesInstanceUID
        series.ReferencedInstanceSequence = [instance_reference(header) for header in named]
        references.ReferencedSeriesSequence = [series]
    return references


def _may_be_named(header: Dataset) -> bool:
    return all(UID(text(header, keyword)).is_valid for keyword in ("SOPClassUID", "SOPInstanceUID"))


def _kept(header: Dataset, keywords: Sequence[str]) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        if keyword in header and _is_legal(header[keyword]):
            element = copy.deepcopy(header[keyword])
            if element.VR in ("DS", "IS") and element.value not in (None, ""):
                element.value = _as_written(element)
            kept.add(element)
    return kept


def _as_written(element: DataElement) -> list[str] | list[int]:
    """Numbers in the form that the standard has for them, whatever form they came in."""
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "IS":
        return [int(value) for value in values]
    return [format_number_as_ds(float(value)) for value in values]


def _is_legal(element: DataElement) -> bool:
    if element.VR == "SQ":
        return True
    values = element.value if element.VM > 1 else [element.value]
    try:
        if element.keyword == "SpecificCharacterSet":
            return all(not value or value in python_encoding for value in values)
        for value in values:
            if value in (None, ""):
                continue
            if element.keyword in _ENUMERATED and value not in _ENUMERATED[element.keyword]:
                return False
            if not isinstance(value, int | float):
                validate_value(element.VR, value, RAISE)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _tells_its_characters(kept: Dataset) -> bool:
    """Whether a data set is plain ASCII, or names the characters that it is written in."""
    return bool(kept.get("SpecificCharacterSet")) or all(
        str(element.value).isascii() for element in kept if element.VR != "SQ"
    )


def _say_lossy(image: Dataset, headers: Sequence[Dataset]) -> None:
    lossy = next((one for one in headers if text(one, "LossyImageCompression") == "01"), None)
    image.LossyImageCompression = "00" if lossy is None else "01"
    if lossy is not None:
        image.update(_kept(lossy, ("LossyImageCompressionRatio", "LossyImageCompressionMethod")))


def _acquisition_equipment(source: Dataset) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
    item.update(_kept(source, _EQUIPMENT))
    if not item.get("Manufacturer"):
        item.Manufacturer = "unknown"
    return item


def _this_program(moment: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SynthesizingEquipment)]
    item.Manufacturer = "medical-gans"
    item.ManufacturerModelName = "medical-gans mr_to_ct"
    item.SoftwareVersions = __version__
    item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = "Synthetic CT estimated from MR; research use only"
    return item
