"""The frames of an image: where each lies, what its values mean, and what separates it from frames of other volumes.

Attributes of an enhanced multi-frame image stand in functional groups, shared ones and one set per frame. Only the
macros that the standard names are read, since private sequences hold other values under the same tags: Philips'
(2005,140F) has an ImagePositionPatient of its own, some 0.5 mm away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydicom import Dataset

from unetpipe.errors import GeometryError, ImageFileError
from unetpipe.imaging.dicom.attributes import items, number, number_if_sound, numbers, text, value
from unetpipe.imaging.dicom.distinctions import Value, distinctions
from unetpipe.imaging.dicom.headers import Image
from unetpipe.imaging.dicom.mosaic import is_mosaic, tiles
from unetpipe.imaging.dicom.slices import Slice
from unetpipe.imaging.dicom.values import Meaning, meaning_of, refuse_colour

_MACROS: Mapping[str, tuple[str, ...]] = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    "FrameContentSequence": (
        *("StackID", "TemporalPositionIndex", "FrameAcquisitionNumber", "FrameAcquisitionDateTime"),
        *("FrameReferenceDateTime", "DimensionIndexValues"),
    ),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionTimes",),
    "MRTimingAndRelatedParametersSequence": ("FlipAngle",),
    "MRDiffusionSequence": ("DiffusionBValue", "DiffusionGradientDirectionSequence"),
    "MRImageFrameTypeSequence": ("FrameType", "ComplexImageComponent"),
    "CTImageFrameTypeSequence": ("FrameType",),
    "PETFrameTypeSequence": ("FrameType",),
    "CTReconstructionSequence": ("ConvolutionKernel",),
    "CTXRayDetailsSequence": ("KVP",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime", "NominalPercentageOfCardiacPhase"),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "SegmentIdentificationSequence": ("ReferencedSegmentNumber",),
}
_PLANAR = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_OTHER_SPACINGS = ("ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice of a volume.

    Attributes:
        image: The file that it is in.
        index: Index of the frame in the file.
        corner: First row and column, where the frame is a tile of a mosaic.
        place: Geometry of the frame.
        meaning: Mapping of stored values to intensities.
        distinctions: Attributes that may separate it from frames of other volumes of its series; see `distinctions`.
    """

    image: Image
    index: int
    corner: tuple[int, int] | None = None
    place: Slice
    meaning: Meaning
    distinctions: Mapping[str, Value] = field(default_factory=dict)


def in_one_sense(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Let values of one frame that have a meaning stand for those of all frames of their series.

    Where slopes differ from frame to frame, that of one may be 1, which alone would not say that values mean anything:
    this frame would be inverted, and the others not.
    """
    if not (any(frame.meaning.stated for frame in frames) and any(frame.meaning.inverted for frame in frames)):
        return tuple(frames)
    return tuple(replace(frame, meaning=replace(frame.meaning, inverted=False)) for frame in frames)


def frames_of(image: Image, *, as_label: bool = False) -> list[Frame]:
    """The frames of an image.

    Args:
        image: Header of the file.
        as_label: Stored values are the classes of a label map.

    Raises:
        ImageFileError: If it is in colour, a number cannot be read, or it does not say where its frames lie.
        GeometryError: If a frame has no position, orientation or pixel size.
    """
    header = image.data
    refuse_colour(header, as_label=as_label)
    if "PerFrameFunctionalGroupsSequence" not in header and is_mosaic(header):
        found = list(_mosaic_frames(image))
    else:
        found = [_frame(image, index, attributes) for index, attributes in enumerate(frame_attributes(header))]
    return [replace(frame, meaning=frame.meaning.of_labels()) for frame in found] if as_label else found


def stored_shape(header: Dataset) -> tuple[int, ...]:
    """Columns, rows and frames of a file, as its header states them.

    Raises:
        ImageFileError: If one of them cannot be read.
    """
    columns, rows, frames = (number(header, keyword) for keyword in ("Columns", "Rows", "NumberOfFrames"))
    return int(columns or 0), int(rows or 0), int(frames or 1)


def frame_attributes(header: Dataset) -> list[Dataset]:
    """The attributes of each frame of a file.

    Raises:
        ImageFileError: If there are several frames, and nothing or something else than one item each describes them.
    """
    groups = items(header, "PerFrameFunctionalGroupsSequence")
    count = int(number(header, "NumberOfFrames") or 1)
    if groups and len(groups) != count:
        raise ImageFileError(f"MULTIFRAME: {count} frames, but {len(groups)} items that say where they lie")
    if not groups and count > 1 and text(header, "Modality") == "NM":
        raise ImageFileError(
            "MULTIFRAME: nuclear medicine (NM) in one file of several frames is not supported, because it says where "
            "the first frame lies and leaves the others to its vendor; export a file per slice"
        )
    if not groups and count > 1:
        raise ImageFileError("MULTIFRAME: an image of several frames that does not say where they lie")
    shared = next(iter(items(header, "SharedFunctionalGroupsSequence")), Dataset())
    return [_merged(group, shared) for group in groups] or [header]


def _merged(own: Dataset, shared: Dataset) -> Dataset:
    """The attributes of a frame: shared ones, and over them its own."""
    merged = Dataset()
    for macro, keywords in _MACROS.items():
        for item in (*items(shared, macro)[:1], *items(own, macro)[:1]):
            for keyword in keywords:
                if value(item, keyword) is not None:
                    merged[keyword] = item[keyword]
    for group in (own, shared):
        if "RealWorldValueMappingSequence" in group:
            merged["RealWorldValueMappingSequence"] = group["RealWorldValueMappingSequence"]
            break
    return merged


def _frame(image: Image, index: int, attributes: Dataset) -> Frame:
    photometric = text(image.data, "PhotometricInterpretation")
    return Frame(
        image=image,
        index=index,
        place=place_of(image.data, attributes),
        meaning=meaning_of(attributes, photometric, image.modality),
        distinctions=distinctions(attributes),
    )


def _mosaic_frames(image: Image) -> Iterator[Frame]:
    whole = _frame(image, 0, image.data)
    for corner, place in tiles(image.data, whole.place):
        yield Frame(
            image=image, index=0, corner=corner, place=place, meaning=whole.meaning, distinctions=whole.distinctions
        )


def place_of(header: Dataset, attributes: Dataset) -> Slice:
    """Compute the position, orientation and pixel size of a frame.

    Args:
        header: Header of the file.
        attributes: Attributes of the frame.

    Raises:
        GeometryError: If position, orientation or pixel size are not there, or cannot be those of pixels.
        ImageFileError: If a number cannot be read.
    """
    found = {keyword: numbers(attributes, keyword) for keyword in _PLANAR}
    if lacking := [keyword for keyword, values in found.items() if not values]:
        message = f"NO_POSITION: an image has no {' and no '.join(lacking)}"
        other = next((keyword for keyword in _OTHER_SPACINGS if numbers(header, keyword)), "")
        if other and lacking == ["PixelSpacing"]:
            message += f"; {other} says nothing about the size of pixels in the patient"
        raise GeometryError(message)
    position, orientation, spacing = found.values()
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        raise GeometryError(f"NO_POSITION: {position}, {orientation}, {spacing} are not 3, 6 and 2 numbers")
    if min(spacing) <= 0:
        raise GeometryError(f"NO_POSITION: PixelSpacing must be positive, got {spacing} mm")
    rows, columns = (int(number(header, keyword) or 0) for keyword in ("Rows", "Columns"))
    if min(rows, columns) < 1:
        raise ImageFileError(f"an image of {rows} rows and {columns} columns has no pixels")
    thickness, gap = (number_if_sound(attributes, keyword) for keyword in ("SliceThickness", "SpacingBetweenSlices"))
    place = Slice(
        shape=(rows, columns),
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=abs(thickness) if thickness else None,
        gap=abs(gap) if gap else None,
    )
    _ = place.directions  # refuses what is no pair of directions
    return place
