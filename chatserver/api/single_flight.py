"""One question for all who ask the same at once.

Owns: the questions under way. May not: keep an answer: who asks later asks anew.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import trio

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Flight(Generic[Value]):
    __slots__ = ("error", "landed", "value")

    def __init__(self) -> None:
        self.landed = trio.Event()
        self.value: Value | None = None
        self.error: Exception | None = None


class SingleFlight(Generic[Key, Value]):
    """`get` runs the question of the first who asks; the others get its answer, or its error."""

    def __init__(self) -> None:
        self._flights: dict[Key, _Flight[Value]] = {}

    async def get(self, key: Key, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The answer. If the first asker is cancelled, the next one asks: that was about the other's time."""
        while (flight := self._flights.get(key)) is not None:
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.value is not None:
                return flight.value
        flight = self._flights[key] = _Flight()
        try:
            flight.value = await ask()
        except Exception as error:
            flight.error = error
            raise
        else:
            return flight.value
        finally:
            del self._flights[key]
            flight.landed.set()

    def __len__(self) -> int:
        return len(self._flights)
