"""DICOM: series read as volumes. The only package that knows pydicom."""
