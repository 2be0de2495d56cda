"""Series that are made up, to show and to test what is done with DICOM."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import format_number_as_ds

from unetpipe.errors import GeometryError
from unetpipe.imaging.geometry import Grid


def write_series(folder: Path, array: NDArray[np.int16], grid: Grid, *, modality: str = "MR", seed: int) -> None:
    """Write a synthetic series: one file per slice along K, no patient in it, file names in random order.

    Args:
        folder: Folder of the series, made if absent.
        array: int16 (I, J, K).
        grid: Grid of the array; its axes must be perpendicular. A reader that sorts along the normal may return K
            reversed, on the grid that belongs to it.
        modality: ``MR`` or ``CT``.
        seed: Same seed, same identifiers and names.

    Raises:
        GeometryError: If the grid is not 3-D, or sheared.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.matrix
    directions = lps[:3, :3] / np.linalg.norm(lps[:3, :3], axis=0)
    if grid.ndim != 3 or not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise GeometryError(f"a DICOM series needs three perpendicular axes, got {grid.affine[:3]}")
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(seed).permutation(grid.shape[2])
    study, series, frame = (generate_uid(entropy_srcs=[kind, str(seed)]) for kind in ("study", "series", "frame"))
    for index in range(grid.shape[2]):
        image = FileDataset("", {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
        image.SOPClassUID = {"MR": MRImageStorage, "CT": CTImageStorage}[modality]
        image.SOPInstanceUID = generate_uid(entropy_srcs=["image", str(seed), str(index)])
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.Modality, image.ImageType = modality, ["ORIGINAL", "PRIMARY", "OTHER"]
        image.PatientName, image.PatientID = "SYNTHETIC", f"SYNTHETIC-{seed}"
        image.SeriesNumber, image.InstanceNumber = 1, index + 1
        image.Rows, image.Columns, image.SamplesPerPixel = grid.shape[1], grid.shape[0], 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.RescaleSlope, image.RescaleIntercept = 1, 0
        image.PixelSpacing = [format_number_as_ds(grid.spacing_mm[1]), format_number_as_ds(grid.spacing_mm[0])]
        image.SliceThickness = image.SpacingBetweenSlices = format_number_as_ds(grid.spacing_mm[2])
        image.ImageOrientationPatient = [format_number_as_ds(cosine) for cosine in directions[:, :2].T.ravel()]
        image.ImagePositionPatient = [format_number_as_ds(mm) for mm in lps[:3, 3] + index * lps[:3, 2]]
        image.PixelData = np.ascontiguousarray(array[:, :, index].T, dtype="<i2").tobytes()
        image.save_as(folder / f"{names[index]:06d}.dcm", enforce_file_format=True)
