"""`python -m chatserver`, and the `chatserver` script. Importing takes a while, in which Ctrl-C shows no traceback."""

import gc
import sys


def main() -> None:
    try:
        from chatserver.cli import main as run  # noqa: PLC0415

        run()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        gc.freeze()  # the interpreter's last collections would visit all that was imported: 0.1 s of CPU


if __name__ == "__main__":
    main()
