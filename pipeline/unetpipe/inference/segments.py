"""The segments of DICOM outputs: a model's classes or regions, with a code for each."""

from collections.abc import Mapping

from pydantic import ValidationError

from unetpipe.dataset.label_scheme import LabelScheme
from unetpipe.documents import first_fault
from unetpipe.errors import BundleError, listed
from unetpipe.imaging.dicom.derived.codes import CodedSegment, SegmentCode, uncoded_class
from unetpipe.imaging.dicom.derived.structures import code_of_structure


def coded_segments(scheme: LabelScheme, codes: Mapping[str, SegmentCode], *, uncoded: bool) -> tuple[CodedSegment, ...]:
    """The segments that a model finds, in its order; regions that share label values overlap.

    Args:
        scheme: Classes and regions of the model.
        codes: Codes of classes or regions by name. Others that are called like a structure of TotalSegmentator have
            its code.
        uncoded: Give every other class a private code.

    Raises:
        BundleError: If a class has no code, or a name that DICOM cannot hold; names all such classes.
    """
    found = {name: codes.get(name) or code_of_structure(name) for name in scheme.names}
    lacking = [name for name, code in found.items() if code is None]
    if lacking and not uncoded:
        raise BundleError(
            f"the model has no code for {listed(lacking)}: give it codes by `unetpipe bundle MODEL "
            "--segments FILE`, or write private codes by --uncoded"
        )
    segments = []
    for (name, code), values, written in zip(found.items(), scheme.values, scheme.written_values, strict=True):
        try:
            segments.append(CodedSegment(name=name, values=values, code=code or uncoded_class(name, written)))
        except ValidationError as error:
            _, reason = first_fault(error)
            raise BundleError(f"class {name!r:.80} cannot be the label of a DICOM segment: {reason}") from error
    return tuple(segments)
