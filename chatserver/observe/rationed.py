"""Work that anybody may ask for has a share of a core; beyond it the last result is given again.

Owns: the account of the time that was used. May not: know what is made.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Rationed(Generic[Value]):
    """`get` makes the value anew while the share allows; `at_once` seconds of work may be used in one burst."""

    def __init__(self, make: Callable[[], Value], *, share: float, at_once: float) -> None:
        self._make = make
        self._share = share
        self._patience = at_once / share
        self._paid = 0.0  # when what was used of the share is made up for
        self._value: Value | None = None

    @property
    def used_up(self) -> bool:
        """Whether `get` would give the last value again."""
        return self._value is not None and self._paid - perf_counter() > self._patience

    def get(self) -> Value:
        """The value, new or the last one."""
        if self._value is None or not self.used_up:
            began = perf_counter()
            self._value = self._make()
            self._paid = max(self._paid, began) + (perf_counter() - began) / self._share
        return self._value
