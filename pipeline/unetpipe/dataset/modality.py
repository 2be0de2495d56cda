"""How an image was acquired, by DICOM's code: what a layout, a header or a person says about a channel.

Only ``CT`` changes what is planned: its intensities are Hounsfield units, the same on every scanner, so they are
normalised by one scale for the whole dataset. Every other modality is normalised image by image.
"""

CT = "CT"

_CODES = frozenset(
    "BI CR CT DX ES GM IVOCT IVUS MG MR NM OCT OP OPT PT PX RF RG SM US XA XC".split()  # noqa: SIM905 - a list to read
)
"""Modalities of images, DICOM PS3.3 C.7.3.1.1.1."""
_NAMES = {
    "MRI": "MR",
    "PET": "PT",
    "ULTRASOUND": "US",
    "SPECT": "NM",
    "MICROSCOPY": "GM",
    **dict.fromkeys(
        ("T1", "T1W", "T1C", "T1CE", "T1GD", "T2", "T2W", "T2F", "FLAIR", "DWI", "ADC", "SWI", "BOLD"), "MR"
    ),
}
"""Usual names that are no code of DICOM."""


def modality_code(name: str) -> str | None:
    """DICOM's code for a modality or the usual name of one.

    Args:
        name: Name of a modality such as ``CT``, ``ct``, ``MRI``, ``PET`` or ``T1w``, in any letter case.

    Returns:
        Such as ``CT``, ``MR`` or ``PT``; None for a name that says nothing about the modality.
    """
    name = name.strip().upper()
    return name if name in _CODES else _NAMES.get(name)
