"""Damaged and hostile inputs give a result or one clear error; `make fuzz` tries them by the thousand."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = "1"
_UNREADABLE = "NIfTI pairs"  # which are refused undamaged, too


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited, and what is taken is read, as Linux does")
def test_damaged_inputs_are_read_or_refused(
    tries: Callable[[int, int], int], record_fault: Callable[..., None]
) -> None:
    """Within limits of time and memory, without a traceback or a write elsewhere, and nothing in them is executed.

    The seed and the number of an input repeat it, as the message of a failure says.
    """
    inputs = tries(160, 12_000)
    command = [sys.executable, str(HERE / "campaign.py"), "--inputs", str(inputs), "--seed", SEED, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)["targets"]
    problems: list[str] = []
    for name, tally in found.items():
        outcomes = tally["outcomes"]
        problems += tally["faults"]
        try:
            record_fault(
                f"damaged {name}",
                tried=sum(outcomes.values()),
                lost=outcomes.get("fault", 0) + outcomes.get("crashed", 0),
                hung=outcomes.get("hung", 0),
                executed=outcomes.get("executed", 0),
                leaked=outcomes.get("leaked", 0),
                outcome=f"{outcomes.get('refused', 0)} refused in one clear error, {outcomes.get('result', 0)} read",
                command="make fuzz",
            )
        except AssertionError as error:
            problems.append(str(error))
    assert not problems, "\n\n".join(problems)
    if inputs > 10_000:
        counts = {name: tally["outcomes"] for name, tally in found.items()}
        dull = {name for name, one in counts.items() if not (one.get("result") and one.get("refused"))}
        assert dull == {_UNREADABLE}
