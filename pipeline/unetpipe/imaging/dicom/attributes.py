"""Values of DICOM attributes as plain Python, or an error that names the attribute and never its content.

Files in use have empty values, several values where one belongs, and text in place of numbers.
"""

import math
from functools import lru_cache
from typing import Any

from pydicom import Dataset, config
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement, convert_raw_data_element
from pydicom.tag import BaseTag, Tag

from unetpipe.errors import ImageFileError, UnetpipeError, printable
from unetpipe.process_setting import ProcessSetting


def _validation() -> tuple[int, int]:
    return config.settings.reading_validation_mode, config.settings.writing_validation_mode


def _set_validation(modes: tuple[int, int]) -> None:
    config.settings.reading_validation_mode, config.settings.writing_validation_mode = modes


# Held by whatever reads or writes values: pydicom's warnings about odd ones quote them, identifiers included. What is
# derived from a series takes over the series' values, valid or not.
without_validation: ProcessSetting[tuple[int, int]] = ProcessSetting(
    _validation, _set_validation, (config.IGNORE, config.IGNORE)
)


_PRIVATE_BLOCKS = range(0x10, 0x20)
"""Blocks of a private group in which an attribute is sought: software reserves the first one that is free."""
_WITHOUT_CHARACTER_SET = frozenset({"CS", "DA", "DS", "DT", "FD", "FL", "IS", "SL", "SS", "TM", "UI", "UL", "US"})
"""Kinds of values that follow from the bytes of their element alone."""


class damage:  # noqa: N801 - a context, read as a word
    """Turn whatever pydicom raises on damaged bytes into one line.

    A class of its own, because one made of a generator takes as long as reading a value does.

    Raises:
        ImageFileError: With this message. What pydicom raises is not documented, and depends on which byte is damaged:
            struct.error, TypeError, KeyError, EOFError, RecursionError, MemoryError and others have been seen.
    """

    __slots__ = ("_message",)

    def __init__(self, message: str) -> None:
        self._message = message

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, UnetpipeError):
            raise ImageFileError(self._message) from error


@lru_cache(maxsize=1024)
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(data: Dataset, keyword: str) -> Any:
    """The value of an attribute; None where it is absent or empty.

    Raises:
        ImageFileError: If it cannot be parsed.
    """
    tag = _tag(keyword)
    if tag not in data.keys():  # noqa: SIM118 - most are not, and a set of keys says so sooner than a dataset
        return None
    with damage(f"a header holds text where a number belongs, or is damaged ({keyword})"):
        stored = data.get_item(tag, keep_deferred=True)
        if isinstance(stored, RawDataElement) and (stored.VR or _vr(tag)) in _WITHOUT_CHARACTER_SET:
            found = _converted(tag, stored.VR, stored.value, stored.is_implicit_VR, stored.is_little_endian)
        else:
            found = data[tag].value
        empty = found is None or (hasattr(found, "__len__") and len(found) == 0)
    return None if empty else found


@lru_cache(maxsize=4096)
def _vr(tag: BaseTag) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else ""


@lru_cache(maxsize=4096)
def _converted(tag: BaseTag, vr: str | None, stored: bytes | None, is_implicit: bool, is_little: bool) -> Any:
    """The value of an element, which most slices of a series have in common. Nobody changes what is returned."""
    raw = RawDataElement(tag, vr, len(stored or b""), stored, 0, is_implicit, is_little)
    return convert_raw_data_element(raw).value


def texts(data: Dataset, keyword: str) -> tuple[str, ...]:
    """The values of a text attribute without padding, as they can be printed; none where it is absent or empty."""
    found = value(data, keyword)
    if found is None:
        return ()
    parts = [found] if isinstance(found, str | bytes) or not hasattr(found, "__iter__") else found
    return tuple(printable(str(part).strip()) for part in parts)


def text(data: Dataset, keyword: str) -> str:
    """The first value of a text attribute, or ``""``."""
    return next(iter(texts(data, keyword)), "")


def numbers(data: Dataset, keyword: str) -> tuple[float, ...]:
    """The values of a numeric attribute; none where it is absent or empty.

    Raises:
        ImageFileError: If one is no finite number.
    """
    found = value(data, keyword)
    if found is None:
        return ()
    with damage(f"a header holds text where a number belongs ({keyword})"):
        parts = tuple(map(float, [found] if isinstance(found, str) or not hasattr(found, "__iter__") else found))
    if not all(map(math.isfinite, parts)):
        raise ImageFileError(f"a header holds NaN or infinity where a number belongs ({keyword})")
    return parts


def number(data: Dataset, keyword: str) -> float | None:
    """The one value of a numeric attribute; None where it is absent or empty.

    Raises:
        ImageFileError: If it is no finite number, or there are several different ones.
    """
    found = set(numbers(data, keyword))
    if len(found) > 1:
        raise ImageFileError(f"a header holds {len(found)} values where one belongs ({keyword})")
    return next(iter(found), None)


def number_if_sound(data: Dataset, keyword: str) -> float | None:
    """Read a number as `number` does, or None where it cannot be used: for attributes that only describe."""
    try:
        return number(data, keyword)
    except ImageFileError:
        return None


def items(data: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence; none where it is absent or empty.

    Raises:
        ImageFileError: If it is damaged, or no sequence.
    """
    found = value(data, keyword)
    if found is None:
        return ()
    with damage(f"a sequence is damaged ({keyword})"):
        parts = tuple(found)
    if not all(isinstance(part, Dataset) for part in parts):
        raise ImageFileError(f"a sequence is damaged ({keyword})")
    return parts


def private_value(data: Dataset, group: int, creator: str, offset: int) -> Any:
    """The value of a private attribute in whichever block its creator has reserved; None where there is none.

    Args:
        data: Header.
        group: Group of the attribute.
        creator: Name under which a block of the group is reserved.
        offset: Last two hexadecimal digits of the attribute's element.
    """
    present = data.keys()
    for reserved, tag in _private_places(group, offset):
        if tag in present and reserved in present and str(data[reserved].value).strip() == creator:
            return data[tag].value
    return None


def private_tags(group: int, *offsets: int) -> tuple[BaseTag, ...]:
    """All tags that `private_value` may look at for attributes of a group, by their offsets."""
    return tuple(tag for offset in offsets for place in _private_places(group, offset) for tag in place)


@lru_cache(maxsize=64)
def _private_places(group: int, offset: int) -> tuple[tuple[BaseTag, BaseTag], ...]:
    """In each block, the tag that reserves it and that of an attribute."""
    return tuple((Tag(group, block), Tag(group, block << 8 | offset)) for block in _PRIVATE_BLOCKS)
