"""Which pseudonyms stand for one case: those of a work folder, of predictions, and the name that references have."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpipe.dataset.manifest import Case, Manifest
from unetpipe.dataset.privacy.case_ids import is_pseudonym
from unetpipe.dataset.privacy.secret import VARIABLE, private_folder
from unetpipe.dataset.privacy.source_names import SourceNames
from unetpipe.dataset.privacy.sources import read_sources
from unetpipe.errors import DatasetError, Fault
from unetpipe.imaging.files import strip_suffix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pseudonyms:
    """Names of cases that have pseudonyms.

    Folders of predictions may lie beside other secrets than the work folder, and references are called by the names of
    their cases. All of them are reported under one pseudonym, the work folder's if there is one.

    Attributes:
        ids: The id that a case is reported under, by its pseudonyms and by its name.
    """

    ids: Mapping[str, str]

    @classmethod
    def of(cls, manifest: Manifest | None, predictions: Sequence[Path]) -> "Pseudonyms":
        """Read the names that the work folder and the folders of predictions have in the site's tables.

        Names that a table has more than once tell no cases apart, and their pseudonyms stay as they are.

        Raises:
            PlanError: If a table is there and cannot be read.
        """
        cases = manifest.cases if manifest is not None else ()
        tables = [{case.id: case.name for case in cases if case.name is not None}]
        folders = [folder for one in predictions for folder in (one, one.parent)]  # DICOM outputs lie in folders
        tables += [{source.id: source.name for source in read_sources(folder)} for folder in folders]
        ids: dict[str, str] = {}
        by_name: dict[str, str] = {}
        for table in tables:
            times = Counter(table.values())
            for pseudonym, name in table.items():
                ids.setdefault(pseudonym, by_name.setdefault(name, pseudonym) if times[name] == 1 else pseudonym)
        return cls(by_name | ids)

    def reported(self, files: Mapping[str, Path]) -> dict[str, Path]:
        """Files by the id under which their cases are reported, sorted by it.

        Raises:
            DatasetError: If two of them are of one case.
        """
        found = dict(sorted((self.ids.get(case, case), path) for case, path in files.items()))
        if len(found) < len(files):
            times = Counter(self.ids.get(case, case) for case in files)
            message = "two files, one called by the case's name and one by a pseudonym, or by two of them"
            twice = sorted(case for case in times if times[case] > 1)
            raise DatasetError([Fault(case=case, kind="duplicate", message=message) for case in twice])
        return found

    def warn_of_lost_names(self, missing: Iterable[str], extra: Iterable[str], predictions: Path) -> None:
        """Say why predictions have no references, where they have pseudonyms that no table explains."""
        if any(missing) and any(is_pseudonym(case) and case not in self.ids for case in extra):
            log.warning(
                "predictions have pseudonyms, and no table in %s says whose they are: it lies where they were made, or "
                "in the folder that %s names",
                private_folder(predictions),
                VARIABLE,
            )


def names_of_files(*files: Mapping[str, Path]) -> SourceNames:
    """The names of files, by the ids of their cases, whose cases have pseudonyms."""
    return SourceNames.of(
        Case(id=case, name=strip_suffix(path.name), images=(path,))
        for of_case in files
        for case, path in of_case.items()
        if is_pseudonym(case) and not is_pseudonym(strip_suffix(path.name))
    )
