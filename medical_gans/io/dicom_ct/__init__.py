"""A synthetic CT as a CT Image Storage series in the study and frame of reference of its MR."""

from medical_gans.io.dicom_ct.attributes import check_source
from medical_gans.io.dicom_ct.series import CtSeries, write_ct_series
from medical_gans.io.dicom_ct.uids import NewUIDs

__all__ = ["CtSeries", "NewUIDs", "check_source", "write_ct_series"]
