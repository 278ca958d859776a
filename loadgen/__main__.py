"""`python -m loadgen`, and the `loadgen` script. Importing takes a while, in which Ctrl-C shows no traceback."""

import gc
import signal
import sys


def main() -> None:
    # Supervisors and `timeout` send it: the same as Ctrl-C, which trio holds back while it runs no task.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's `&` has ignored in scripts
    try:
        from loadgen.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # the interpreter's last collections would visit all that was imported: 0.1 s of CPU


if __name__ == "__main__":
    main()
