"""DICOM in, DICOM out: one module for each kind of object, and those that intake is made of."""
