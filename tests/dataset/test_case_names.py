"""Any id has a file name of its own, and the file name leads back to the id."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from unetpipe.dataset.case_names import MAX_BYTES, case_id, file_names, match_ids

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "hôpital_é") for form in ("NFC", "NFD"))
NAMES = [
    "plain_007",
    "Fall 1 (prä)",
    "study.v2 #3",
    "P5+T1",
    "患者三",
    "scan 1",
    "scan_1",
    ".hidden",
    " led by a space",
    "ends in a dot.",
    "100%",
    "100%25",
    'a/b\\c:d*e?f"g<h>i|j',
    "line\nbreak",
]


def test_readable_names_stay_as_they_are() -> None:
    """Spaces, brackets, umlauts and other scripts are left alone; only what a file system refuses is written out."""
    names = file_names(NAMES)
    assert [names[case] for case in NAMES[:7]] == NAMES[:7]
    assert (names[".hidden"], names["100%"], names["line\nbreak"]) == ("%2Ehidden", "100%25", "line%0Abreak")
    assert names['a/b\\c:d*e?f"g<h>i|j'] == "a%2Fb%5Cc%3Ad%2Ae%3Ff%22g%3Ch%3Ei%7Cj"


@pytest.mark.parametrize(
    "alike", [("Scan_1", "scan_1", "SCAN_1"), (COMPOSED, DECOMPOSED), ("Straße", "STRASSE"), ("a:B", "A:b")]
)
def test_file_systems_that_ignore_case_or_normal_form_keep_all_files(alike: tuple[str, ...]) -> None:
    """Ids that macOS takes for one file have file names that it does not, and each leads back to its id."""
    ids = {*NAMES, *alike}
    names = file_names(ids)
    seen = {unicodedata.normalize("NFD", name.casefold()) for name in names.values()}
    assert len(seen) == len(ids)
    assert {case_id(name) for name in names.values()} == ids


def test_any_text_goes_there_and_back(tmp_path: Path) -> None:
    """A thousand random ids have a thousand files, each no longer than a file system takes, that lead back to them."""
    rng = np.random.default_rng(0)
    letters = list("aAbB01 ._-%/\\:äßé漢🧠\u0301\n'\"")
    ids = {"".join(rng.choice(letters, rng.integers(1, 60))) for _ in range(1000)}
    names = file_names(ids)
    for name in names.values():
        (tmp_path / name).touch()
        assert len(name.encode()) <= MAX_BYTES
    written = [path.name for path in tmp_path.iterdir()]
    assert match_ids(written, ids) == {name: case for case, name in names.items()}
    assert all(case_id(name) == case for case, name in names.items() if "%~" not in name)


def test_long_names_are_cut_and_kept_apart() -> None:
    """Names beyond 200 bytes end in a hash of the id, and still lead back to the ids that are known."""
    ids = ["患" * 100 + end for end in "ab"] + ["x" * 300]
    names = file_names(ids)
    assert all(len(name.encode()) <= MAX_BYTES for name in names.values())
    assert len(set(names.values())) == 3
    assert {case_id(name) for name in names.values()} == {None}
    assert match_ids(names.values(), ids) == {name: case for case, name in names.items()}


def test_files_of_others_belong_to_their_cases() -> None:
    """A file called as the id itself, or in another normal form, is the case's; near misses are nobody's."""
    ids = ["100%", DECOMPOSED, "scan 1", "a/b"]
    assert match_ids(["100%", COMPOSED, "scan_1", "a%2Fb", "other"], ids) == {
        "100%": "100%",
        COMPOSED: DECOMPOSED,
        "a%2Fb": "a/b",
    }
    both = [COMPOSED, DECOMPOSED]
    assert match_ids(both, both) == {COMPOSED: COMPOSED, DECOMPOSED: DECOMPOSED}
