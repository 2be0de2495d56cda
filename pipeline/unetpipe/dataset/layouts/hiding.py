"""Pseudonyms in place of the names of a dataset's cases, before anything else is said about them."""

from unetpipe.dataset.layouts.listing import Listing
from unetpipe.dataset.manifest import Case
from unetpipe.dataset.privacy.case_ids import CaseIds, hidden
from unetpipe.dataset.privacy.source_names import SourceNames


def hide_sources(listing: Listing, ids: CaseIds) -> None:
    """Give the cases of a listing, and of its test cases, the ids that they are to have; their faults follow.

    Raises:
        UnetpipeError: If the site's secret can be neither read nor made.
    """
    for part in filter(None, (listing, listing.tests)):
        pseudonyms = ids.pseudonyms(part.cases)
        if not any(pseudonyms):
            continue
        named = zip(part.cases, pseudonyms, strict=True)
        part.cases = [_hidden(case, pseudonym, ids) for case, pseudonym in named]
        ids.record(part.cases)
        names = SourceNames.of(part.cases)
        part.faults = [names.hide_in(fault) for fault in part.faults]
        part.training_faults = [names.hide_in(fault) for fault in part.training_faults]


def _hidden(case: Case, pseudonym: str | None, ids: CaseIds) -> Case:
    """A case of a dataset some of whose cases have pseudonyms; patients have one in all of them, to stay together."""
    patient = None if case.patient is None else ids.patient(case.patient)
    return hidden(case, pseudonym).model_copy(update={"patient": patient})
