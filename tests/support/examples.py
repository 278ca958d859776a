"""The number of examples for Hypothesis: for each test enough to find planted faults, or HYPOTHESIS_EXAMPLES.

HYPOTHESIS_EXAMPLES=5000 python -m pytest tests/chat    searches for new ones
"""

import os

from hypothesis import settings

#: Of 36 planted mutations, 100 examples find one more: see tests/protocol/test_fuzz.py.
FEW = 40
#: The number for every test; 0 if it is not set.
EXPLORED = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """A decorator: try `count` examples, unless HYPOTHESIS_EXAMPLES is set."""
    return settings(max_examples=EXPLORED or count)
