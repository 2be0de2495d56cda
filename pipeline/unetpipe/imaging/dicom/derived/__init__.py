"""DICOM objects derived from a series: segmentations, structure sets and measurement reports."""
