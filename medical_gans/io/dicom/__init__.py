"""DICOM in and out: strict intake, CT series, segmentations, structure sets, sending."""
