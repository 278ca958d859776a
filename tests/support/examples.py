"""How many examples Hypothesis tries: a number for each test that finds what is planted, or what somebody asks for.

HYPOTHESIS_EXAMPLES=5000 python -m pytest tests/chat    goes looking for new ones
"""

import os

from hypothesis import settings

#: Of 36 mutations planted in what they test, 100 examples found one more: see tests/protocol/test_fuzz.py.
FEW = 40
#: What was asked for, of every test; 0 is nothing.
EXPLORED = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """A decorator: try so many examples, unless more are asked for."""
    return settings(max_examples=EXPLORED or count)
