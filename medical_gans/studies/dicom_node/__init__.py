"""A DICOM node (extra `send`): MR series come by C-STORE, their synthetic CT go to an archive, none is lost."""

from medical_gans.studies.dicom_node.delivery import Archive
from medical_gans.studies.dicom_node.node import DicomNode
from medical_gans.studies.dicom_node.peers import Peers, TlsFiles
from medical_gans.studies.dicom_node.series_queue import QueueLimits
from medical_gans.studies.dicom_node.stages import Retries

__all__ = ["Archive", "DicomNode", "Peers", "QueueLimits", "Retries", "TlsFiles"]
