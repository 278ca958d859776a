"""When those whom a restart sends away should come back: not all at once.

Owns: the window. May not: send anybody away.
"""

import random

#: Seconds that a restart takes at least, and over which clients are asked to come back after that.
RETURN_AFTER, RETURN_WINDOW = 1.0, 5.0


def return_after(share: float | None = None) -> float:
    """Seconds to wait: somewhere in the window by chance, or for `share` (0 to 1) of those who leave before."""
    return RETURN_AFTER + RETURN_WINDOW * (random.random() if share is None else share)  # noqa: S311  no secret
