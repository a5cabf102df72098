"""What a derived series keeps of its source and what it says of itself, attribute by attribute.

Objects are built from nothing: only what is named here enters them, so no private tag and no MR acquisition
attribute slips into a CT.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom import DataElement, Dataset
from pydicom.config import RAISE
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import validate_value

from medical_gans import __version__
from medical_gans.errors import InputError

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
_ALWAYS_KEPT = ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition")
_EMPTY_IN_AN_MR = ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength")
_NEEDED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientPosition")
_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    *("InstitutionName", "StationName"),
)
_LARGEST_NUMBER = 2**31 - 1


def check_source(headers: Sequence[Dataset]) -> None:
    """Refuse source headers from which no series of the same study and frame of reference can be derived.

    Raises:
        InputError: StudyInstanceUID, FrameOfReferenceUID or PatientPosition is missing, or one of these or
            the PatientID differs between slices.
    """
    for keyword in (*_NEEDED, "PatientID"):
        values = {str(header.get(keyword) or "") for header in headers}
        if len(values) > 1:
            raise InputError(
                f"The MR has {len(values)} different values of {keyword}, so no CT series can be tied to it. "
                "Export the MR again, or set write_dicom to false to get NIfTI only."
            )
        if keyword in _NEEDED and values == {""}:
            raise InputError(
                f"The MR has no {keyword}, so no CT series can be tied to it. Export it from its source again, "
                "or set write_dicom to false to get NIfTI only."
            )


def illegal_values(header: Dataset) -> list[str]:
    """Keywords of what a derived object would keep, had it not a value that DICOM forbids (such as one too long)."""
    wanted = set(PATIENT_AND_STUDY + FRAME_AND_ACQUISITION) - set(_ALWAYS_KEPT)
    return sorted(keyword for keyword in wanted if keyword in header and not _is_legal(header[keyword]))


def patient_and_study(header: Dataset) -> Dataset:
    """The identity of patient and study, the same in every object of the study."""
    kept = _kept(header, PATIENT_AND_STUDY)
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
    number = int(source.get("SeriesNumber") or 0) + number_offset
    image.SeriesNumber = number if abs(number) <= _LARGEST_NUMBER else number_offset
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
    """What names the images that an image was computed from."""
    purpose = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    items = []
    for header in sources:
        item = instance_reference(header)
        item.PurposeOfReferenceCodeSequence = purpose
        items.append(item)
    series = Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = [instance_reference(header) for header in sources]
    references = Dataset()
    references.SourceImageSequence = items
    references.ReferencedSeriesSequence = [series]
    return references


def _kept(header: Dataset, keywords: Sequence[str]) -> Dataset:
    kept = Dataset()
    for keyword in keywords:
        if keyword in header and (keyword in _ALWAYS_KEPT or _is_legal(header[keyword])):
            kept.add(copy.deepcopy(header[keyword]))
    return kept


def _is_legal(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "SQ":
        return True
    try:
        for value in values:
            if value is not None and not isinstance(value, int | float):
                validate_value(element.VR, value, RAISE)
    except ValueError:
        return False
    return True


def _say_lossy(image: Dataset, headers: Sequence[Dataset]) -> None:
    lossy = next((one for one in headers if str(one.get("LossyImageCompression") or "00") == "01"), None)
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
