"""`python -m unetpipe` and the `unetpipe` command."""

from unetpipe.cli import app


def main() -> None:
    """Run the command line on `sys.argv`; exits 0, 1 (the input's fault), 2 (wrong usage) or 130 (interrupted)."""
    app(prog_name="unetpipe")


if __name__ == "__main__":
    main()
