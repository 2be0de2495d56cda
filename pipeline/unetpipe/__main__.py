"""`python -m unetpipe` and the `unetpipe` command."""

import os

from unetpipe.cli import app


def main() -> None:
    """Run the command line on `sys.argv`; exits 0, 1 (the input's fault), 2 (wrong usage) or 130 (interrupted)."""
    # Torch's OpenMP threads spin while they wait; beside threads that read and write files, or other jobs on the
    # machine, that starves whoever they wait for. Measured on two cores shared with others: 2 to 10 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="unetpipe")


if __name__ == "__main__":
    main()
