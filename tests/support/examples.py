"""How many examples Hypothesis tries: for each test enough to find planted faults, or HYPOTHESIS_EXAMPLES.

HYPOTHESIS_EXAMPLES=5000 python -m pytest tests/chat    searches for new ones
"""

import os

from hypothesis import settings

#: Of 36 mutations planted in what they test, 100 examples found one more: see tests/protocol/test_fuzz.py.
FEW = 40
#: The number for every test; 0 if it is not set.
EXPLORED = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """A decorator: try so many examples, unless more are asked for."""
    return settings(max_examples=EXPLORED or count)
