"""Limits work that anybody may request to a share of a core; beyond it the last result is returned again.

Owns: the record of the time used. May not: know what is made.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Rationed(Generic[Value]):
    """`get` makes the value anew while the share allows; a burst may use `at_once` seconds of work."""

    def __init__(self, make: Callable[[], Value], *, share: float, at_once: float) -> None:
        self._make = make
        self._share = share
        self._patience = at_once / share
        self._paid = 0.0  # when the time used is made up for, at the rate of the share
        self._value: Value | None = None

    @property
    def used_up(self) -> bool:
        """Whether `get` would return the last value again."""
        return self._value is not None and self._paid - perf_counter() > self._patience

    def get(self) -> Value:
        """The value, new or the last one."""
        if self._value is None or not self.used_up:
            began = perf_counter()
            self._value = self._make()
            self._paid = max(self._paid, began) + (perf_counter() - began) / self._share
        return self._value
