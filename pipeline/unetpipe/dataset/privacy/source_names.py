"""Names of sources taken out of what is said about their cases."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from unetpipe.dataset.manifest import Case
from unetpipe.errors import DatasetError, Fault, UnetpipeError
from unetpipe.imaging.files import has_image_suffix

_WITHHELD = "(name withheld)"
_SHORTEST = 2
"""A name of one letter identifies nobody, and is a word."""


@dataclass(frozen=True)
class SourceNames:
    """Names that may identify patients.

    Attributes:
        replaced: What is said in place of each name.
    """

    replaced: Mapping[str, str]

    @classmethod
    def of(cls, cases: Iterable[Case]) -> "SourceNames":
        """The names of those cases that have a pseudonym, and of their files."""
        replaced: dict[str, str] = {}
        for case in cases:
            if case.name is None:
                continue
            for path in filter(None, (*case.images, case.label)):
                replaced[str(path)] = _WITHHELD
                if has_image_suffix(path.name) or path.suffix:
                    replaced[path.name] = _WITHHELD
            if len(case.name) >= _SHORTEST:
                replaced[case.name] = case.id
        return cls(replaced)

    def hide(self, text: str) -> str:
        """The text without the names."""
        if not self.replaced:
            return text
        longest_first = sorted(self.replaced, key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        return re.sub(rf"(?<![\w.-])(?:{pattern})(?![\w-])", lambda match: self.replaced[match[0]], text)

    def hide_in(self, fault: Fault) -> Fault:
        """The fault without the names."""
        return replace(fault, case=self.hide(fault.case), message=self.hide(fault.message))

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Take the names out of errors.

        Raises:
            UnetpipeError: What is raised within, of the same kind.
        """
        try:
            yield
        except DatasetError as error:
            raise DatasetError([self.hide_in(fault) for fault in error.faults]) from None
        except UnetpipeError as error:
            raise type(error)(self.hide(str(error))) from None
