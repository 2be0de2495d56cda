"""Where runs and their folds lie."""

from pathlib import Path

from unetpipe.dataset.run_folders import fold_folder, fold_folders, run_folder, run_folders


def test_folds_are_found_by_their_numbers_and_nothing_else_is(tmp_path: Path) -> None:
    """Folds come in the order of their numbers; a copy, a file, and a number that no fold is written with are none."""
    run = run_folder(tmp_path, "default")
    for name in ("fold_10", "fold_2", "fold_0", "fold_0_backup", "fold_²", "fold_01", "fold_1e3", "old_fold_3"):
        (run / name).mkdir(parents=True)
    (run / "fold_4").touch()
    assert fold_folders(run) == {number: fold_folder(run, number) for number in (0, 2, 10)}
    assert list(fold_folders(run)) == [0, 2, 10]
    assert fold_folders(tmp_path / "nowhere") == {}


def test_runs_are_the_folders_with_folds(tmp_path: Path) -> None:
    """A run is a folder with at least one fold."""
    for name in ("second/fold_1", "first/fold_0", "none/ensemble", "copy/fold_0_backup"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert run_folders(tmp_path) == [run_folder(tmp_path, "first"), run_folder(tmp_path, "second")]
    assert run_folders(tmp_path / "nowhere") == []
