"""The number of examples for Hypothesis: for each test enough to find planted faults, or HYPOTHESIS_EXAMPLES.

HYPOTHESIS_EXAMPLES=5000 python -m pytest tests/chat    searches for new ones
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from hypothesis import seed, settings

Drawn = ParamSpec("Drawn")

#: Of 36 planted mutations, 100 examples find one more: see tests/protocol/test_fuzz.py.
FEW = 40
#: The number for every test; 0 if it is not set.
EXPLORED = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


#: Examples of one call of hypothesis of which none copies parts of another.
ALL_NEW = 10


def examples(count: int) -> settings:
    """A decorator: try `count` examples, unless HYPOTHESIS_EXAMPLES is set."""
    return settings(max_examples=EXPLORED or count)


def new_examples(count: int) -> Callable[[Callable[Drawn, None]], Callable[Drawn, None]]:
    """As `examples`, but above `given`, for sequences of acts: each example is a new one.

    After ten examples hypothesis makes five of six by copying parts of the one before, so it is called for ten at most.
    """
    total = EXPLORED or count
    calls = -(-total // ALL_NEW)

    def decorate(test: Callable[Drawn, None]) -> Callable[Drawn, None]:
        limited = settings(max_examples=-(-total // calls))(test)

        @wraps(limited)
        def run(*arguments: Drawn.args, **named: Drawn.kwargs) -> None:
            for number in range(calls):
                (limited if EXPLORED else seed(number)(limited))(*arguments, **named)

        return run

    return decorate
