"""`python -m loadgen`, and the `loadgen` script. Importing takes a while, in which Ctrl-C shows no traceback."""

import signal
import sys


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # supervisors and `timeout` send it: the same as Ctrl-C
    try:
        from loadgen.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
