"""How the commands end: the exit codes of `serve`, and the one line that says why.

Owns: the numbers and the form of the line. May not: end anything by itself.
"""

import sys

EXIT_CLEAN, EXIT_FAULT, EXIT_BAD_FLAGS, EXIT_BIND, EXIT_LOG = range(5)


def complain(message: str) -> None:
    """Tell the person who started us."""
    print(f"chatserver: {message}", file=sys.stderr, flush=True)  # noqa: T201
