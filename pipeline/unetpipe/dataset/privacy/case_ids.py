"""Ids of cases that say nothing about the patient.

Folders and files of DICOM are called after patients, and so would their cases be. A case with a DICOM source is called
by a pseudonym instead: the HMAC of its study's and series' UIDs under the site's secret, so that the same study has
the same id in `preprocess` and in `infer`, wherever it lies.
"""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unetpipe.config.base import CaseIdKind
from unetpipe.dataset.manifest import Case, source_of
from unetpipe.dataset.privacy.secret import Secret, site_secret
from unetpipe.dataset.privacy.sources import write_sources
from unetpipe.errors import ImageFileError
from unetpipe.imaging.dicom.sources import DICOM_SUFFIXES, is_dicom

_PSEUDONYM = re.compile(r"case-[0-9a-f]{16}")


@dataclass(frozen=True)
class CaseIds:
    """What cases are called.

    Attributes:
        kind: ``hash`` makes pseudonyms of all names, ``name`` keeps all names, and None makes pseudonyms of the names
            of cases with a DICOM source.
        folder: Folder that the command writes, beside which the secret lies. Where nothing is written, it is None, and
            cases are numbered in the order of their names instead.
    """

    kind: CaseIdKind | None = "name"
    folder: Path | None = None

    def pseudonyms(self, cases: Sequence[Case]) -> list[str | None]:
        """The pseudonym of each case; None for those that keep their names.

        Cases of the same UIDs, such as copies of one series, are told apart by their names.

        Raises:
            UnetpipeError: If the secret can be neither read nor made.
        """
        hidden = [self.kind == "hash" or (self.kind is None and any(map(_is_dicom, case.images))) for case in cases]
        if not any(hidden):
            return [None] * len(cases)
        if self.folder is None:
            ranks = {name: rank for rank, name in enumerate(sorted({case.id for case in cases}), start=1)}
            return [f"case_{ranks[case.id]}" if hide else None for case, hide in zip(cases, hidden, strict=True)]
        identities = [_identity(case) if hide else () for case, hide in zip(cases, hidden, strict=True)]
        names: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for case, identity in zip(cases, identities, strict=True):
            names[identity].add(case.id)
        return [
            self._pseudonym(identity if len(names[identity]) == 1 else (*identity, case.id)) if identity else None
            for case, identity in zip(cases, identities, strict=True)
        ]

    def record(self, cases: Iterable[Case]) -> int:
        """Add the cases that have pseudonyms to the site's table, where a person looks up whom a message is about.

        Returns:
            Number of these cases.

        Raises:
            UnetpipeError: If the table cannot be written.
        """
        hidden = [source_of(case) for case in cases if case.name is not None]
        if hidden and self.folder is not None:
            write_sources(self.folder, hidden, add=True)
        return len(hidden)

    def patient(self, name: str) -> str:
        """The pseudonym of a patient, by which cases of one patient are kept together."""
        return f"patient-{self._secret.digest('patient', name)}"

    @cached_property
    def _secret(self) -> Secret:
        """The site's secret; one of this run where nothing is written."""
        return Secret(secrets.token_bytes()) if self.folder is None else site_secret(self.folder)

    def _pseudonym(self, identity: Sequence[str]) -> str:
        return f"case-{self._secret.digest('case', *identity)}"


KEEP_NAMES = CaseIds()
"""Cases are called what their dataset or their files call them."""


def hidden(case: Case, pseudonym: str | None) -> Case:
    """The case under a pseudonym, or as it is where it has none."""
    return case if pseudonym is None else case.model_copy(update={"id": pseudonym, "name": case.id})


def is_pseudonym(case: str) -> bool:
    """Whether an id has the form of a pseudonym."""
    return _PSEUDONYM.fullmatch(case) is not None


def _is_dicom(path: Path) -> bool:
    """Whether a source is DICOM, or may have been before it was damaged."""
    return is_dicom(path) or path.suffix.lower() in (*DICOM_SUFFIXES, ".zip")


def _identity(case: Case) -> tuple[str, ...]:
    """What tells a case from all others: the UIDs of its sources with what is read of them, or else its name."""
    if not all(map(is_dicom, case.images)):
        return ("name", case.id)
    from unetpipe.imaging.dicom.study import first_identifiers  # pydicom

    found: list[str] = []
    for image, choice in case.sources:
        try:
            identifiers = first_identifiers(image, choice.study if choice else None)
        except ImageFileError:
            identifiers = None
        if identifiers is None or not any(identifiers):
            return ("name", case.id)
        found += identifiers
        if choice is not None and (choice.series or choice.phase):  # a study is chosen where others lie beside it only
            found += [choice.series or "", str(choice.phase or "")]
    return tuple(found)
