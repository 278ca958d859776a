"""Limits work that any client may request to a share of a core; beyond it the last result is returned again.

Owns: the share, and the record of the time used. May not: know what is made.
"""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Generic, TypeVar

#: The share of a core, and the seconds that may be used at once: 100 scrapes of /metrics. Prometheus scrapes every
#: 15 s; at 20,000 connections its text is then at most 30 ms old.
SHARE, AT_ONCE_SECONDS = 0.1, 0.3

Piece = TypeVar("Piece")


class Rationed(Generic[Piece]):
    """`pieces` makes the result anew while the share allows, one piece after the other."""

    def __init__(self, make: Callable[[], Iterator[Piece]]) -> None:
        self._make = make
        self._paid = 0.0  # when the time used is made up for, at the rate of the share
        self._cost = 0.0  # of the last result, charged when the next one is begun: many may be under way
        self._last: Sequence[Piece] = ()  # nothing is charged, so nothing is used up, before there is one

    @property
    def used_up(self) -> bool:
        """Whether `pieces` would give the last result again."""
        return self._paid - perf_counter() > AT_ONCE_SECONDS / SHARE

    def pieces(self) -> Iterator[Piece]:
        """The pieces of the result, new or those of the last one."""
        if self.used_up:
            yield from self._last
            return
        self._paid = max(self._paid, perf_counter()) + self._cost / SHARE
        pieces: list[Piece] = []
        cost, making = 0.0, self._make()
        while True:
            began = perf_counter()
            piece = next(making, None)
            cost += perf_counter() - began
            if piece is None:
                break
            pieces.append(piece)
            yield piece
        self._last, self._cost = pieces, cost
