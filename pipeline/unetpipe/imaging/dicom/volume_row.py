"""A row of the list from which a person chooses a volume. Nothing here needs pydicom."""

from unetpipe.documents import Record


class VolumeRow(Record):
    """One volume of a source.

    Attributes:
        study: Number of its study.
        series: Number of its series, for ``--series``.
        phase: Number of the volume in its series, for ``--phase``; empty where there is only one.
        modality: DICOM modality, such as ``CT``.
        description: SeriesDescription, which may say more than a log should hold.
        size: Columns x rows x slices.
        spacing_mm: Voxel size along columns, rows and slices; empty where slices do not lie evenly.
        plane: ``axial``, ``coronal`` or ``sagittal``, or ``oblique`` and the closest of them.
        differs_by: Values that separate it from the other volumes of its series.
        problem: Why it cannot be read as it is; empty if it can.
    """

    study: int
    series: int
    phase: str
    modality: str
    description: str
    size: str
    spacing_mm: str
    plane: str
    differs_by: str
    problem: str
