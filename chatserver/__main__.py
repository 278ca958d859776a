"""`python -m chatserver`, and the `chatserver` script. Importing takes a while, in which Ctrl-C shows no traceback."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from chatserver.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
