"""Own code is imported when it was named, and only then; what is wrong with it is said in one line."""

import sys
from pathlib import Path

import pytest

from unetpipe import extensions
from unetpipe.components import build, registered, source_digest
from unetpipe.errors import ComponentError, ExtensionError
from unetpipe.extensions import extension_digest, extension_name, load_extensions, package_digest

SCALE = """
from unetpipe import register


@register("metric", "{word}")
def scaled(factor=1):
    return {value} * factor
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path with the package `my_lab`, and with an installed distribution whose entry point names it."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "__init__.py").write_text("")
    (tmp_path / "my_lab" / "scores.py").write_text(SCALE.format(word="test_of_package", value=7))
    (tmp_path / "my_lab-1.0.dist-info").mkdir()
    (tmp_path / "my_lab-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-lab\nVersion: 1.0\n")
    (tmp_path / "my_lab-1.0.dist-info" / "entry_points.txt").write_text("[unetpipe.extensions]\nlab = my_lab.scores\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(extensions, "_noted", {})
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_lab"]:
        del sys.modules[name]


def test_a_file_registers_its_parts(tmp_path: Path) -> None:
    """A word is known once its file was named, and loading the file twice is loading it once."""
    file = tmp_path / "my_metrics.py"
    file.write_text(SCALE.format(word="test_of_file", value=3))
    assert "test_of_file" not in registered("metric")
    for _ in range(2):
        load_extensions([str(file)])
        assert build("metric", "test_of_file", factor=2) == 6


def test_an_edited_file_is_imported_anew(tmp_path: Path) -> None:
    """In a notebook the next call uses what the file says now."""
    file = tmp_path / "my_metrics.py"
    for value in (3, 4):
        file.write_text(SCALE.format(word="test_of_edit", value=value))
        load_extensions([str(file)])
        assert build("metric", "test_of_edit") == value


def test_files_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    """Two files that register one word are two parts of one name, and refused, although both are called alike."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(SCALE.format(word="test_of_two", value=1))
    load_extensions([str(tmp_path / "a" / "mine.py")])
    with pytest.raises(ExtensionError, match=r"extension mine\.py: .*two metric parts .*mine\.py, line 5"):
        load_extensions([str(tmp_path / "b" / "mine.py")])


def test_modules_and_entry_points(package: Path) -> None:  # noqa: ARG001 - on the path
    """A dotted name and the name of an entry point lead to the same module, which nothing imports before."""
    assert "my_lab" not in sys.modules
    load_extensions(["lab"])
    load_extensions(["my_lab.scores"])
    assert build("metric", "test_of_package") == 7


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\nos.nothing\n", r"AttributeError: .*'nothing' \(bad\.py, line 2\)"),
        ("def f(:\n", r"SyntaxError: .*\(bad\.py, line 1\)"),
        ("import nowhere\n", r"ModuleNotFoundError: No module named 'nowhere' \(bad\.py, line 1\)"),
        ("import json\n\njson.loads('{')\n", r"JSONDecodeError: .*\(bad\.py, line 3\)"),
        ("import sys\nsys.exit()\n", r"SystemExit: \(bad\.py, line 2\)"),
        (
            "from unetpipe import register\n\nregister('loss', 'dice_ce')(print)\n",
            r"ComponentError: two loss parts .*\(bad\.py, line 3\)",
        ),
    ],
)
def test_what_fails_is_one_line_with_its_place(tmp_path: Path, code: str, message: str) -> None:
    """The line of the extension is named, also where the error was raised in a library that it called."""
    import unetpipe.training.optimization.loss  # noqa: F401 - registers the package's own

    file = tmp_path / "bad.py"
    file.write_text(code)
    with pytest.raises(ExtensionError, match=rf"^extension bad\.py: {message}$") as raised:
        load_extensions([str(file)])
    assert "\n" not in str(raised.value)
    assert str(tmp_path) not in str(raised.value)


def test_an_error_deeper_in_a_package_is_named_there(package: Path) -> None:
    """In a package the file counts that is wrong, not the one that imports it."""
    (package / "my_lab" / "scores.py").write_text("from my_lab import deeper\n")
    (package / "my_lab" / "deeper.py").write_text("\n\n1 / 0\n")
    with pytest.raises(ExtensionError, match=r"extension lab: ZeroDivisionError: .* \(deeper\.py, line 3\)"):
        load_extensions(["lab"])


@pytest.mark.parametrize("name", ["nowhere", "no.where", "not a name", "", "os.nothing"])
def test_what_is_not_there_says_what_could_be(name: str, package: Path) -> None:  # noqa: ARG001 - on the path
    """A name that leads nowhere is answered with the kinds of names, and the extensions that are installed."""
    with pytest.raises(ExtensionError, match=r"expected a \.py file, an importable module, .*\(lab\)"):
        load_extensions([name])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name is said, and not its folder."""
    with pytest.raises(ExtensionError, match=r"^extension mine\.py: no such file$"):
        load_extensions([str(tmp_path / "mine.py")])


def test_name_and_digest_hold_no_path(tmp_path: Path, package: Path) -> None:
    """What a run keeps of an extension is a name, and a digest that changes with the file."""
    file = tmp_path / "mine.py"
    file.write_text("1\n")
    before = extension_digest(str(file))
    file.write_text("2\n")
    assert extension_digest(str(file)) != before
    assert extension_name(str(file)) == "mine.py"
    assert extension_name("lab") == "lab"
    assert (
        extension_digest("lab")
        == extension_digest("my_lab.scores")
        == extension_digest(str(package / "my_lab" / "scores.py"))
    )
    whole = package_digest("my_lab")
    assert package_digest(str(file)) == package_digest("lab") == ""
    with (package / "my_lab" / "scores.py").open("a") as inner:
        inner.write("# edited\n")
    assert package_digest("my_lab") != whole


def test_the_digest_of_a_part_is_that_of_what_runs(tmp_path: Path) -> None:
    """An edit while a long run goes on changes nothing of it, until the file is imported again."""
    file = tmp_path / "mine.py"
    file.write_text(SCALE.format(word="test_of_edits", value=7))
    load_extensions([str(file)])
    before = source_digest("metric", "test_of_edits")
    assert before
    file.write_text(SCALE.format(word="test_of_edits", value=8))
    assert source_digest("metric", "test_of_edits") == before
    load_extensions([str(file)])
    assert source_digest("metric", "test_of_edits") != before


def test_the_digest_of_an_extension_is_that_of_what_runs(tmp_path: Path, package: Path) -> None:
    """Folds that are trained one after the other have one, although somebody edits the extension meanwhile."""
    file = tmp_path / "mine.py"
    names, files = (
        (str(file), "lab", "my_lab"),
        (file, package / "my_lab" / "scores.py", package / "my_lab" / "more.py"),
    )
    for one in (file, package / "my_lab" / "more.py"):
        one.write_text("1\n")
    load_extensions(names)
    before = [(extension_digest(name), package_digest(name)) for name in names]
    for one in files:
        one.write_text("2\n")
    assert [(extension_digest(name), package_digest(name)) for name in names] == before
    load_extensions(names)  # a file is imported anew, and a module is not
    assert extension_digest(str(file)) != before[0][0]
    assert [(extension_digest(name), package_digest(name)) for name in names[1:]] == before[1:]


def test_a_class_that_is_defined_anew_takes_its_word_again() -> None:
    """A notebook's cell may be run twice; another part of the same word is still refused."""
    from unetpipe import register

    for _ in range(2):

        @register("metric", "test_of_cell")
        def cell() -> int:
            return 1

    with pytest.raises(ComponentError, match="two metric parts"):

        @register("metric", "test_of_cell")
        def other() -> int:
            return 2
