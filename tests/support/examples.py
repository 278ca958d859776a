"""Hypothesis in the suite: the same examples every time, so that a red run is about the change at hand.

HYPOTHESIS_EXAMPLES=5000 python -m pytest tests/chat    goes looking for new ones
"""

import os

from hypothesis import settings


def load() -> None:
    """Choose the profile for this run."""
    examples = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))
    # No deadline: the machine may be busy, and no test here is about time.
    settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
    settings.register_profile("explore", deadline=None, max_examples=max(examples, 1), database=None)
    settings.load_profile("explore" if examples else "fixed")
