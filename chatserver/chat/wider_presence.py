"""The people of one room, here and in other processes.

Owns: who of them is here, and how what another process says becomes arrivals and departures. May not: know how it was
said; elsewhere.py does.

A user who is connected to two processes is present once. Of a large room a process names some only: the others are a
number, and somebody who is in two processes may count twice there.
"""

from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal


class There(NamedTuple):
    """Who is in one room in one other process."""

    people: dict[int, Principal]  # by number
    unnamed: int  # so many more

    def same_as(self, other: "There") -> bool:
        """Whether nobody would see a difference."""
        return (
            self.unnamed == other.unnamed
            and self.people.keys() == other.people.keys()
            and all(other.people[number].label == each.label for number, each in self.people.items())
        )


NOBODY = There({}, 0)


class WiderPresence(Presence):
    """The people of one room, here and in other processes; `noted` is told when those who are here have changed."""

    __slots__ = ("_again", "_here", "_name", "_noted", "_unnamed_others")

    def __init__(self, name: str, noted: Callable[[str, "WiderPresence"], None]) -> None:
        super().__init__()
        self._name = name
        self._noted = noted
        self._here: dict[int, Principal] = {}  # by number
        self._again: dict[int, int] | None = None  # connections in this process, of those who have more than one
        self._unnamed_others = 0

    def __len__(self) -> int:
        return len(self._people) + self._unnamed_others

    @property
    def here(self) -> bool:
        """See `Presence.here`."""
        return bool(self._here)

    @property
    def count_here(self) -> int:
        """How many are in this process."""
        return len(self._here)

    def people_here(self, limit: int) -> list[Principal]:
        """Some of them, by the names that they have here."""
        return list(islice(self._here.values(), limit))

    def enter(self, principal: Principal) -> None:
        """See `Presence.enter`."""
        super().enter(principal)
        self._name_here(principal)

    def change(self, before: Principal, now: Principal) -> None:
        """See `Presence.change`."""
        super().change(before, now)
        self._name_here(now)

    def _name_here(self, principal: Principal) -> None:
        if self._here[principal.number].label != principal.label:
            self._here[principal.number] = principal
            self._noted(self._name, self)

    def _add(self, principal: Principal) -> None:
        super()._add(principal)
        number = principal.number
        if number not in self._here:
            self._here[number] = principal
            self._noted(self._name, self)
            return
        if self._again is None:
            self._again = {}
        self._again[number] = self._again.get(number, 1) + 1

    def leave(self, number: int) -> None:
        """See `Presence.leave`."""
        super().leave(number)
        count = 1 if self._again is None else self._again.pop(number, 1)
        if count == 1:
            del self._here[number]
            self._noted(self._name, self)
        elif count > 2 and self._again is not None:
            self._again[number] = count - 1

    def hear(self, before: "There", now: "There") -> None:
        """Take in that those of another process have changed."""
        large = before.unnamed or now.unnamed
        if large and (before.unnamed != now.unnamed or before.people.keys() != now.people.keys()):
            self._unnamed = True  # others are named, who may have been there before
            self._changes = None
            self.listing = None
        self._unnamed_others += now.unnamed - before.unnamed
        for number, principal in now.people.items():
            known = before.people.get(number)
            if known is None:
                super()._add(principal)
            elif known.label != principal.label:
                self._rename(principal)
        for number in before.people:
            if number not in now.people:
                super().leave(number)

    def begin_with(self, there: "There") -> None:
        """Those who are in another process already are nothing to tell."""
        self.hear(NOBODY, there)
        self._changes = None
        self._unnamed = False
