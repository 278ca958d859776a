"""Hypothesis here: the same examples every time, so that a red run is about the change at hand.

To go looking for new ones: HYPOTHESIS_EXAMPLES=20000 python -m pytest tests/protocol/test_fuzz.py
"""

import os

from hypothesis import settings

_examples = int(os.environ.get("HYPOTHESIS_EXAMPLES", "0"))
# No deadline: the machine may be busy, and no test here is about time.
settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=max(_examples, 1), database=None)
settings.load_profile("explore" if _examples else "fixed")
