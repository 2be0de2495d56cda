"""A DICOM node: DICOMweb in and out, and a C-STORE listener that keeps its models loaded."""
