"""From the activity concentration of PET to SUVbw, the standardised uptake value by body weight in g/ml.

By QIBA's vendor-neutral pseudo-code: activity times weight over the dose, the dose decayed to the time that the images
were decay-corrected to. See https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV).
"""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import DT

from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.attributes import damage, items, number, private_value, text, texts
from unetpipe.imaging.dicom.frames import Frame

_SUV_UNITS = ("GML", "{SUVbw}g/ml")
_PHILIPS_FACTOR = (0x7053, "Philips PET Private Group", 0x00)
_GE_SCAN_TIME = (0x0009, "GEMS_PETD_01", 0x0D)
_UNREADABLE = "a time cannot be read"
_LATE = timedelta(minutes=10)  # by which an injection may follow the start of a dynamic scan
_MOMENT = re.compile(r"\d{12}(\d\d(\.\d*)?)?([+-]\d{4})?")  # to the minute at least
_ZONE = re.compile(r"([+-])(\d\d)(\d\d)")
_NO_MINUTE = re.compile(r"\d{4}(\d\d){0,3}([+-]\d{4})?")  # a date, or a date and an hour
_DATE = re.compile(r"\d{4}(\d{4}|\.\d\d\.\d\d)")  # with full stops in ACR-NEMA
_COLONS = re.compile(r"\d\d:\d\d(:|$)")
_FRACTION = re.compile(r"(\.\d{6})\d+")  # of a second, with more digits than there are microseconds
_MOST_HALF_LIVES = 10  # after which there is nothing left to scan: a date, or the half-life's unit, is wrong


def suv_factor(frames: Sequence[Frame]) -> tuple[float, str]:
    """Compute the factor of a PET volume's intensities to SUV, and a sentence about it.

    Raises:
        ImageFileError: If an attribute that is needed is not there, or units and decay correction are of another kind.
    """
    header = frames[0].image.data
    units, kind = text(header, "Units"), text(header, "SUVType")
    if frames[0].meaning.units in _SUV_UNITS or (units in _SUV_UNITS and kind in ("", "BW")):
        return 1.0, "Intensities are SUVbw, as the files say."
    if units == "CNTS":
        with damage("PET: the scale factor (7053,1000) is no number"):
            written = _private_value(header, *_PHILIPS_FACTOR)
            factor = None if written is None else float(written)
        if factor is None:
            raise _impossible("it is in counts, and their scale factor (7053,1000) is missing")
        if factor <= 0:
            raise _impossible(f"the scale factor of its counts (7053,1000) is {factor:g}")
        return factor, "Counts were multiplied by their scale factor to SUVbw."
    if units != "BQML":
        raise _impossible(f"Units should be BQML, got {f'{units} {kind}'.strip() or 'nothing'}")
    return _from_activity(frames), "Activity was divided by the decayed dose per body weight: intensities are SUVbw."


def _from_activity(frames: Sequence[Frame]) -> float:
    header = frames[0].image.data
    drug = next(iter(items(header, "RadiopharmaceuticalInformationSequence")), Dataset())
    weight_kg, dose_bq = _positive(header, "PatientWeight"), _positive(drug, "RadionuclideTotalDose")
    corrected = texts(header, "CorrectedImage")
    if corrected and not {"ATTN", "DECY"} <= set(corrected):
        raise _impossible("CorrectedImage lacks ATTN or DECY")
    correction = text(header, "DecayCorrection")
    if correction == "ADMIN":
        return weight_kg * 1000 / dose_bq
    if correction != "START":
        raise _impossible(f"DecayCorrection should be START or ADMIN, got {correction or 'nothing'}")
    half_life_s = _positive(drug, "RadionuclideHalfLife")
    scan = _scan_start(frames, half_life_s)
    half_lives = (scan - _injection(drug, scan, header)).total_seconds() / half_life_s
    if half_lives > _MOST_HALF_LIVES:
        raise _impossible(f"the injection is {half_lives:.0f} half-lives before the scan")
    return float(weight_kg * 1000 / (dose_bq * 2**-half_lives))


def _scan_start(frames: Sequence[Frame], half_life_s: float) -> datetime:
    """The time that images were decay-corrected to.

    It is the series' time, unless that is the time of a later reconstruction. Then GE has it in a private attribute;
    for others it is computed from the time of the frame's average count rate.
    """
    header = frames[0].image.data
    series = _date_time(header, "SeriesDate", "SeriesTime")
    acquired = [_date_time(frame.image.data, "AcquisitionDate", "AcquisitionTime") for frame in frames]
    if series <= min(acquired):
        return series
    if (started := _private_value(header, *_GE_SCAN_TIME)) is not None:
        return _parsed(str(started).strip(), header)
    reference_s, duration_s = (_positive(header, key) / 1000 for key in ("FrameReferenceTime", "ActualFrameDuration"))
    decay = math.log(2) / half_life_s
    average_s = math.log(decay * duration_s / -math.expm1(-decay * duration_s)) / decay
    return acquired[0] + timedelta(seconds=average_s - reference_s)


def _private_value(header: Dataset, group: int, creator: str, offset: int) -> Any:
    """The value of a private attribute; in the first block also where no creator is named, as after anonymisation."""
    found, first = private_value(header, group, creator, offset), (group, 0x1000 | offset)
    if found is None and (group, 0x0010) not in header and first in header:
        return header[first].value
    return found


def _injection(drug: Dataset, scan: datetime, header: Dataset) -> datetime:
    written = text(drug, "RadiopharmaceuticalStartDateTime")
    if written and not _NO_MINUTE.fullmatch(written):
        injected = _parsed(written, header)
    else:
        clock = text(drug, "RadiopharmaceuticalStartTime")
        if not clock:
            raise _impossible("RadiopharmaceuticalStartTime is missing")
        injected = _parsed(f"{scan:%Y%m%d}{_plain_time(clock)}", header)
        if injected - scan > _LATE:  # midnight lay between both
            injected -= timedelta(days=1)
    if injected - scan > _LATE:
        raise _impossible("the injection is later than the scan")
    return injected


def _date_time(data: Dataset, date: str, time: str) -> datetime:
    for keyword in (date, time):
        if not text(data, keyword):
            raise _impossible(f"{keyword} is missing")
    day = text(data, date)
    if not _DATE.fullmatch(day):
        raise _impossible(_UNREADABLE)
    return _parsed(day.replace(".", "") + _plain_time(text(data, time)), data)


def _plain_time(written: str) -> str:
    """A time of day without the colons of ACR-NEMA."""
    return written.replace(":", "") if _COLONS.match(written) else written


def _parsed(written: str, header: Dataset) -> datetime:
    """A date and time in the zone of its file, where both zones are stated; else as it is written.

    Times without a zone are in that of their file (PS3.3, C.12.1.1.8).
    """
    if not _MOMENT.fullmatch(written):
        raise _impossible(_UNREADABLE)
    with damage(f"PET cannot become SUVbw: {_UNREADABLE}"):
        found = DT(_FRACTION.sub(r"\1", written))
        assert found is not None  # not empty
        own, local = found.utcoffset(), found.replace(tzinfo=None)
    zone = None if own is None else _zone(header)
    return local if own is None or zone is None else local + (zone - own)


def _zone(header: Dataset) -> timedelta | None:
    """How far the times of a file are ahead of UTC; None where it does not say."""
    if not (written := text(header, "TimezoneOffsetFromUTC")):
        return None
    if not (found := _ZONE.fullmatch(written)):
        raise _impossible("TimezoneOffsetFromUTC cannot be read")
    sign, hours, minutes = found.groups()
    return timedelta(hours=int(sign + hours), minutes=int(sign + minutes))


def _positive(data: Dataset, keyword: str) -> float:
    found = number(data, keyword)
    if found is None or found <= 0:
        raise _impossible(f"{keyword} is {'missing' if found is None else f'{found:g}'}")
    return found


def _impossible(reason: str) -> ImageFileError:
    return ImageFileError(f"PET cannot become SUVbw: {reason}")
