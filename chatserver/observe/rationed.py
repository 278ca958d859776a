"""Limits work that any client may request to a share of a core; beyond it the last result is returned again.

Owns: the share, and the record of the time used. May not: know what is made.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

#: The share of a core, and the seconds that may be used at once: 100 scrapes of /metrics. Prometheus scrapes every
#: 15 s; at 20,000 connections its text is then at most 30 ms old.
SHARE, AT_ONCE_SECONDS = 0.1, 0.3

Value = TypeVar("Value")


class Rationed(Generic[Value]):
    """`get` makes the value anew while the share allows."""

    def __init__(self, make: Callable[[], Value]) -> None:
        self._make = make
        self._paid = 0.0  # when the time used is made up for, at the rate of the share
        self._value: Value | None = None

    @property
    def used_up(self) -> bool:
        """Whether `get` would return the last value again."""
        return self._value is not None and self._paid - perf_counter() > AT_ONCE_SECONDS / SHARE

    def get(self) -> Value:
        """The value, new or the last one."""
        if self._value is None or not self.used_up:
            began = perf_counter()
            self._value = self._make()
            self._paid = max(self._paid, began) + (perf_counter() - began) / SHARE
        return self._value
