"""unetpipe: from a folder of medical scans to a deployable segmentation model."""

__version__ = "0.1.0"
