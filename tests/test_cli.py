"""The command line starts fast, reaches every field of every config, and says in words what went wrong."""

import json
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import BaseModel, Field
from typer.main import get_command
from typer.testing import CliRunner, Result

from unetpipe import __version__, config
from unetpipe.cli import app
from unetpipe.cli.app import _CONFIGS
from unetpipe.cli.options import ConfigError, fields_of, with_options
from unetpipe.cli.parse import check_command
from unetpipe.cli.run import run
from unetpipe.config.base import Config
from unetpipe.config.evaluate import EvaluateConfig
from unetpipe.config.infer import InferConfig
from unetpipe.config.train import TrainConfig
from unetpipe.errors import DatasetError, Fault, PlanError
from unetpipe.progress import Progress

COMMANDS = [
    *("preprocess", "train", "infer", "evaluate", "bundle", "models", "sync", "merge", "submit", "listen"),
    *("demo", "info"),
]
HEAVY = ["torch", "monai", "mlflow", "numpy", "scipy", "nibabel", "SimpleITK", "matplotlib"]

run_command = CliRunner().invoke


class Group(Config):
    """A nested config."""

    rate: float = 0.1
    name: str = "a"


class Everything(Config):
    """One field of each kind."""

    source: Path
    others: tuple[Path, ...] = ()
    out: Path
    count: Annotated[int, Field(ge=1)] = 3
    limit: Annotated[float, Field(gt=0)] | None = None
    kind: Literal["auto", "cpu"] = "auto"
    flip: bool = False
    report: bool = True
    bounds: dict[str, float] = Field({})
    spacing_mm: tuple[float, ...] | None = None
    group: Group = Group()


class Outcome(Config):
    """What a stage returns."""

    value: float = 1.5
    path: Path = Path("labels")
    exit_code: int = 0


def _app(stage: Callable[[Everything, Progress], BaseModel]) -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)

    @made.callback()
    def root(debug: bool = False) -> None: ...

    @made.command("do")
    @with_options(Everything, ["source"])
    def do(ctx: typer.Context, **_: object) -> None:
        run(ctx, Everything, stage)

    return made


def _parsed(*words: str) -> Everything:
    """What the command line makes of these words; `do SOURCE --out o` unless they say otherwise."""
    seen: list[Everything] = []

    def stage(given: Everything, _: Progress) -> BaseModel:
        seen.append(given)
        return Outcome()

    result = run_command(_app(stage), ["do", *words])
    assert result.exit_code == 0, result.output
    return seen[0]


def _raising(error: BaseException, *words: str) -> Result:
    def stage(*_: object) -> BaseModel:
        raise error

    return run_command(_app(stage), [*words, "do", "in", "--out", "o"])


def test_help_loads_nothing_heavy() -> None:
    """Printing the help imports neither torch nor anything else that takes long."""
    code = (
        "import sys\n"
        "from unetpipe.cli import app\n"
        "try:\n    app(['--help'])\n"
        "except SystemExit:\n    pass\n"
        f"print(','.join(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert "preprocess" in done.stdout
    assert done.stderr.strip() == ""


def test_runs_as_a_module() -> None:
    """`python -m unetpipe --version` prints the version and nothing else."""
    command = [sys.executable, "-m", "unetpipe", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == f"unetpipe {__version__}\n"


def test_all_commands_are_there() -> None:
    """The documented commands exist, in the order a person needs them."""
    assert list(get_command(app).commands) == COMMANDS  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example(name: str) -> None:
    """Each command's help holds a line to copy, and what it shows parses."""
    text = run_command(app, [name, "--help"], terminal_width=200).output
    examples = [shlex.split(line) for line in text.splitlines() if line.strip().startswith(f"unetpipe {name}")]
    assert examples
    if name in ("submit", "info", "demo"):
        return
    for _, *words in examples:
        assert isinstance(check_command(app, _CONFIGS, words), _CONFIGS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_is_reachable(name: str) -> None:
    """Each field of a command's config is an argument or an option of it; only nested groups are left to --set."""
    parameters = {parameter.name for parameter in get_command(app).commands[name].params}  # type: ignore[attr-defined]
    for field in fields_of(_CONFIGS[name]):
        assert field.name in parameters or field.kind is None, f"{name} cannot set {field.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_is_explained(name: str) -> None:
    """Each field has a docstring: it is the option's help."""
    assert [field.name for field in fields_of(_CONFIGS[name]) if not field.info.description] == []


def test_every_config_belongs_to_a_command() -> None:
    """There is no stage config in config.py that no command takes."""
    models = {value for value in vars(config).values() if isinstance(value, type) and issubclass(value, Config)}
    top = {model for model in models if model.__name__.endswith("Config")} - {Config}
    assert top <= set(_CONFIGS.values())


def test_values_by_kind() -> None:
    """Each kind of field takes its value from the command line."""
    words = ["in", "-o", "x", "--others", "a", "--others", "b", "--count", "5", "--limit", "0.5", "--kind", "cpu"]
    given = _parsed(
        *words, "--flip", "--no-report", "--bounds", "dice=0.8", "--set", "group.rate=0.7", "--spacing-mm", "1,1.5,3"
    )
    assert given == Everything(
        source=Path("in"),
        out=Path("x"),
        others=(Path("a"), Path("b")),
        count=5,
        limit=0.5,
        kind="cpu",
        flip=True,
        report=False,
        bounds={"dice": 0.8},
        spacing_mm=(1.0, 1.5, 3.0),
        group=Group(rate=0.7),
    )


def test_precedence(tmp_path: Path) -> None:
    """Options win over --set, --set over the YAML file, the file over the defaults; groups are merged."""
    file = tmp_path / "c.yaml"
    file.write_text("source: in\nout: o\ncount: 7\nkind: cpu\nlimit: 2\ngroup: {name: b}\n")
    given = _parsed(
        "--config", str(file), "--set", "limit=3", "--set", "count=8", "--set", "group.rate=0.5", "--count", "9"
    )
    assert (given.source, given.count, given.limit, given.kind) == (Path("in"), 9, 3.0, "cpu")
    assert given.group == Group(rate=0.5, name="b")


def test_an_option_equal_to_its_default_still_wins(tmp_path: Path) -> None:
    """Typing the default's value overrides the YAML file: what was typed counts, not what differs."""
    file = tmp_path / "c.yaml"
    file.write_text("count: 7\n")
    assert _parsed("in", "--out", "o", "--config", str(file), "--count", "3").count == 3


def test_a_run_s_own_config_can_be_given_again(tmp_path: Path) -> None:
    """The resolved config that a run saves is a valid --config."""
    file = tmp_path / "c.yaml"
    given = _parsed("in", "--out", "o", "--count", "4")
    file.write_text(given.model_dump_json())
    assert _parsed("--config", str(file)) == given


def test_former_names_of_fields_are_taken(tmp_path: Path) -> None:
    """An option that was called otherwise is still an option, in YAML too; label values are numbers and ranges."""
    words = ["evaluate", "a", "b", "--out", "c"]
    given = check_command(app, _CONFIGS, [*words, "--classes", "liver=1", "--classes", "axon=255,233-254"])
    named = check_command(app, _CONFIGS, [*words, "--labels", "liver=1", "--labels", "axon=255,233-254"])
    (tmp_path / "c.yaml").write_text("classes: {liver: 1, axon: '255,233-254'}")
    read = check_command(app, _CONFIGS, [*words, "--config", str(tmp_path / "c.yaml")])
    assert given == named == read
    config = ["--config", str(tmp_path / "c.yaml")]
    typed = check_command(app, _CONFIGS, [*words, *config, "--labels", "liver=2"])
    assert typed == check_command(app, _CONFIGS, [*words, *config, "--set", "classes={liver: 2}"])
    assert typed.model_dump()["labels"] == {"liver": ((2, 2),)}
    assert named.model_dump()["labels"] == {"liver": ((1, 1),), "axon": ((255, 255), (233, 254))}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["preprocess", "d", "--out", "w", "--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
        (["train", "w", "--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
        (["evaluate", "a", "b", "--out", "c", "--seed", "5000000000"], "--seed: Input should be less than 4294967296"),
        (["demo", "--seed", "-1"], "--seed: Input should be greater than or equal to 0"),
        (["train", "w", "--max-minutes", "inf"], "--max-minutes: Input should be a finite number"),
        (["preprocess", "d", "--out", "w", "--spacing-mm", "nan,1,1"], "--spacing-mm: Input should be a finite number"),
        (["train", "w", "--run-name", "a/b"], "--run-name: expected the name of one folder, without /"),
        (["evaluate", "w", "--cross-validation", "--out", "c", "--run-name", ".."], "--run-name: expected the name"),
    ],
)
def test_values_that_would_fail_hours_later_are_wrong_usage(words: list[str], message: str) -> None:
    """What no generator, clock or folder can be is found before any work."""
    with pytest.raises(ConfigError) as error:
        check_command(app, _CONFIGS, words)
    assert message in str(error.value)


def test_an_earlier_list_takes_one_place_and_an_option() -> None:
    """MODEL is one argument before INPUTS; more models come from --model."""
    words = ["infer", "m0", "a.nii.gz", "b.nii.gz", "--model", "m1", "--model", "m2", "--out", "o"]
    given = check_command(app, _CONFIGS, words)
    assert isinstance(given, InferConfig)
    assert given.models == (Path("m0"), Path("m1"), Path("m2"))
    assert given.inputs == (Path("a.nii.gz"), Path("b.nii.gz"))


@pytest.mark.parametrize(
    ("words", "predictions", "reference"),
    [
        (["a", "b"], "a", "b"),
        (["a", "b", "c"], "ab", "c"),
        (["a", "--reference", "r"], "a", "r"),
        (["a", "b", "--reference", "r"], "ab", "r"),
        (["a", "b", "--work", "w"], "a", "b"),
        (["a", "--work", "w"], "a", None),
        (["a", "b", "--cross-validation"], "ab", None),
    ],
)
def test_the_last_path_is_the_reference_unless_something_else_is(
    words: list[str], predictions: str, reference: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate A REF` and `evaluate A B --reference REF` both say what is compared with what."""
    seen: list[EvaluateConfig] = []

    def stage(given: EvaluateConfig, _: Progress) -> BaseModel:
        seen.append(given)
        return Outcome()

    monkeypatch.setattr("unetpipe.stages.evaluate.evaluate", stage)
    result = run_command(app, ["evaluate", *words, "--out", "o"])
    assert result.exit_code == 0, result.output
    assert [str(path) for path in seen[0].predictions] == list(predictions)
    assert seen[0].reference == (Path(reference) if reference else None)


def test_predictions_alone_are_wrong_usage() -> None:
    """Without anything to compare with, the command says what is missing."""
    result = run_command(app, ["evaluate", "labels", "--out", "o"])
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "error: REFERENCE is missing: give it after the predictions, or --reference or --work",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "o"], "error: SOURCE is missing"),
        (["in"], "error: --out is missing"),
        (["in", "--out", "o", "--count", "0"], "error: --count: Input should be greater than or equal to 1, got 0"),
        (["in", "--out", "o", "--set", "speed=3"], "error: speed: no such field"),
        (["in", "--out", "o", "--set", "group.rate=fast"], "error: group.rate: Input should be a valid number"),
        (["in", "--out", "o", "--set", "rate"], "error: --set: expected FIELD=VALUE, got 'rate'"),
        (
            ["in", "--out", "o", "--set", "count.x=1", "--set", "count.x.y=2"],
            "error: --set: x in 'count.x.y=2' is a value",
        ),
        (["in", "--out", "o", "--limit", "inf"], "error: --limit: Input should be a finite number"),
        (["in", "--out", "o", "--bounds", "dice"], "error: --bounds: expected KEY=VALUE, got 'dice'"),
        (
            ["in", "--out", "o", "--bounds", "dice=1", "--bounds", "dice=0"],
            "error: --bounds: dice is given twice: give",
        ),
        (["in", "--out", "o", "--config", "absent.yaml"], "error: --config: absent.yaml cannot be read"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], message: str) -> None:
    """What is wrong is named as it would be typed, one line each, exit code 2, nothing on stdout."""
    result = run_command(_app(lambda *_: Outcome()), ["do", *words])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_what_is_wrong_with_options_together_is_one_sentence() -> None:
    """It names them; all that was typed, with the paths of scans, is not repeated."""
    result = run_command(app, ["infer", "model", "--out", "labels", "--dicomweb", "https://pacs/dicom-web"])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == "error: --dicomweb and --study need each other"


def test_all_wrong_fields_are_named_at_once(tmp_path: Path) -> None:
    """Two faults in a YAML file are two lines."""
    file = tmp_path / "c.yaml"
    file.write_text("source: in\nout: o\ncount: 0\nkind: gpu\n")
    result = run_command(_app(lambda *_: Outcome()), ["do", "--config", str(file)])
    assert [line.split(":")[1].strip() for line in result.stderr.splitlines()[:2]] == ["--count", "--kind"]


@pytest.mark.parametrize("text", ["- a list", "key: [unclosed", ""])
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, text: str) -> None:
    """A YAML file that does not hold fields is wrong usage."""
    file = tmp_path / "c.yaml"
    file.write_text(text)
    result = run_command(_app(lambda *_: Outcome()), ["do", "--config", str(file)])
    assert (result.exit_code, "error: --config:" in result.stderr) == (2, True)


def test_an_error_is_one_line() -> None:
    """The input's fault ends in one line on stderr and exit code 1."""
    result = _raising(PlanError("plan.yaml is missing"))
    assert (result.exit_code, result.stderr, result.stdout) == (1, "error: plan.yaml is missing\n", "")


def test_a_full_disk_is_one_line_too() -> None:
    """An error of the operating system needs no traceback."""
    result = _raising(OSError(28, "No space left on device", "labels/a.nii.gz"))
    assert result.exit_code == 1
    assert "No space left on device: 'labels/a.nii.gz'" in result.stderr


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    """Where a folder was to be made and a file is, the line says so."""
    (file := tmp_path / "report").touch()
    result = _raising(FileExistsError(17, "File exists", str(file)))
    assert (result.exit_code, result.stderr) == (1, f"error: {file} is a file; expected a folder\n")


def test_debug_keeps_the_traceback() -> None:
    """With --debug the error itself comes through."""
    assert isinstance(_raising(PlanError("plan.yaml is missing"), "--debug").exception, PlanError)


def test_a_bug_keeps_its_traceback() -> None:
    """What is not the input's fault is not dressed up."""
    assert isinstance(_raising(ZeroDivisionError()).exception, ZeroDivisionError)


def test_all_faults_of_a_dataset_are_listed() -> None:
    """Every fault is a line with its case, kind and message; with --json they are on stdout for scripts."""
    faults = [
        Fault(case="case_1", kind="shape_mismatch", message="label shape (3, 4, 5) differs from image shape (3, 4, 6)"),
        Fault(case="case_20", kind="missing_label", message="labels/case_20.nii.gz does not exist"),
        Fault(case="case_3", kind="empty_label", message="no voxel is labelled", severity="warning"),
    ]
    result = _raising(DatasetError(faults))
    assert result.exit_code == 1
    first, *lines = result.stderr.splitlines()
    assert first == "error: 2 errors and 1 warning"
    assert [line.split()[:2] for line in lines[:2]] == [["case_1", "shape_mismatch"], ["case_20", "missing_label"]]
    assert lines[2].split(maxsplit=2)[2] == "warning: no voxel is labelled"

    def stage(*_: object) -> BaseModel:
        raise DatasetError(faults)

    listed = json.loads(run_command(_app(stage), ["do", "in", "--out", "o", "--json"]).stdout)["faults"]
    assert [fault["kind"] for fault in listed] == ["shape_mismatch", "missing_label", "empty_label"]


def test_interrupt_is_130() -> None:
    """Ctrl-C ends with one line and the shell's code for it."""
    result = _raising(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_json_is_all_there_is_on_stdout() -> None:
    """With --json stdout parses, whatever a library prints meanwhile."""

    def stage(*_: object) -> BaseModel:
        print("a library's chatter")
        logging.getLogger("unetpipe.stages").info("news")
        return Outcome()

    result = run_command(_app(stage), ["do", "in", "--out", "o", "--json"])
    assert json.loads(result.stdout) == {"value": 1.5, "path": "labels", "exit_code": 0}
    assert "chatter" in result.stderr
    assert "news" in result.stderr


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"exit_code": 3}, 3),
        ({"passed": False}, 1),
        ({"passed": True}, 0),
        ({"failed": ("a",)}, 1),
        ({"failed": ()}, 0),
    ],
)
def test_a_result_may_be_a_failure(fields: dict[str, Any], code: int) -> None:
    """A gate not passed, a scan not segmented and a failed job show in the exit code, after the result."""

    class Given(BaseModel, extra="allow"): ...

    result = run_command(_app(lambda *_: Given(**fields)), ["do", "in", "--out", "o", "--json"])
    assert result.exit_code == code
    assert result.stdout


def test_a_submitted_command_is_checked_first() -> None:
    """A typing mistake in a job's command fails at once, not in the queue."""
    assert run_command(app, ["submit", "--cluster", "local", "train", "work", "--epoch", "3"]).exit_code == 2
    assert run_command(app, ["submit", "--cluster", "local", "train", "work", "--epochs", "0"]).exit_code == 2
    with pytest.raises(ConfigError, match="expected one of the commands train"):
        check_command(app, {"train": TrainConfig}, ["demo"])


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_is_served() -> None:
    """As in a container that is run by any number: MONAI asks for the user's name when it is imported."""
    environment = {name: value for name, value in os.environ.items() if name not in ("LOGNAME", "USER", "USERNAME")}
    code = "from unetpipe.__main__ import _name_the_user; _name_the_user(); import getpass; print(getpass.getuser())"
    command = [sys.executable, "-c", f"import os; import unetpipe.__main__; os.setuid(54321); {code}"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout == "54321\n"


def test_options_of_submit_come_before_its_words() -> None:
    """`submit status --json` would print a table to a program that expects JSON."""
    result = run_command(app, ["submit", "status", "--json"])
    assert result.exit_code == 2
    assert "--json comes before status" in result.stderr


def test_an_evaluation_without_a_reference_is_not_submitted() -> None:
    """It would wait in the queue for its error."""
    submit = ["submit", "--cluster", "local", "--dry-run"]
    result = run_command(app, [*submit, "evaluate", "labels", "--out", "r"])
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        2,
        "error: evaluate: REFERENCE is missing: give it after the predictions, or --reference or --work",
    )
    for words in (["labels", "references"], ["work", "--cross-validation"], ["work", "--cross-validation", "--choose"]):
        assert run_command(app, [*submit, "evaluate", *words, "--out", "r"]).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--train", "epochs=2", "iterations=3"],
        ["--train", "epochs=2", "--train", "iterations=3"],
        ["--set", "train.epochs=2", "--set", "train.iterations=3"],
    ],
)
def test_options_of_a_pipeline_s_commands_are_pairs(balls: Path, words: list[str]) -> None:
    """One option takes several, as everywhere; and --set takes numbers."""
    result = run_command(app, ["submit", "--cluster", "local", "--dry-run", "pipeline", str(balls), "-o", "w", *words])
    assert result.exit_code == 0, result.output
    assert "--set epochs=2 --set iterations=3" in result.output


def test_a_tracker_is_a_word() -> None:
    """A list is wrong usage, in one line."""
    with pytest.raises(ConfigError) as error:
        check_command(app, _CONFIGS, ["train", "work", "--set", "tracking=[mlflow]"])
    assert str(error.value) == "train: --tracking: Input should be a valid string, got ['mlflow']"
