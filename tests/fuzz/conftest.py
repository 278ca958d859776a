"""Hypothesis as in tests/protocol: the same examples every time; HYPOTHESIS_EXAMPLES=5000 goes looking for others."""

from tests.support import examples

examples.load()
