"""The people of one room, here and in other processes.

Owns: the one list made of people here and of reports from other processes, and which of its changes are arrivals or
departures. May not: know how the reports came; cluster.py does.

No person is kept twice: people here are in `Presence`, others are looked up in their processes' reports. A user who is
connected to two processes is present once. Of a large room a process names only some people: the others are a number,
and a user in two processes may count twice there.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

from chatserver.chat.presence import MAX_LISTED, MAX_NAMED_MEMBERS, Presence
from chatserver.chat.principal import Principal


class RemotePeople(NamedTuple):
    """The people of one room in one other process."""

    people: dict[int, Principal]  # by number
    unnamed: int  # number of further people

    def same_as(self, other: "RemotePeople") -> bool:
        """Whether the two look the same to clients and moderators."""
        return self.unnamed == other.unnamed and not self.changed_to(other)

    def changed_to(self, now: "RemotePeople") -> list[int]:
        """The numbers of people who have come, left, or changed their names or networks."""
        before, after = self.people, now.people
        return [
            number
            for number, each in (before | after).items()
            if number not in before or number not in after or _looks(before[number]) != _looks(each)
        ]


def _looks(person: Principal) -> tuple[object, str]:
    return person.label, person.network


NOBODY = RemotePeople({}, 0)


class ClusterPresence(Presence):
    """The people of one room, here and in other processes; `noted` is called when people here have changed."""

    __slots__ = ("_more", "_name", "_noted", "_others", "_renamed")

    def __init__(self, name: str, noted: Callable[[str], object], elsewhere: Sequence[RemotePeople] = ()) -> None:
        super().__init__()
        self._name = name
        self._noted = noted
        #: the people of each process that names some
        self._others: tuple[dict[int, Principal], ...] = tuple(there.people for there in elsewhere if there.people)
        #: people who are elsewhere and not here
        self._more = len(set().union(*self._others)) + sum(there.unnamed for there in elsewhere)
        self._renamed: dict[int, Principal] | None = None  # people here who have got a newer name elsewhere

    def __len__(self) -> int:
        return self.here + self._more

    def people(self, limit: int = MAX_LISTED) -> list[Principal]:
        """Up to `limit` people present: those here in the order they came, then the others."""
        found = {each.number: each for each in super().people(limit)}
        if self._renamed:
            found.update({number: each for number, each in self._renamed.items() if number in found})
        for number, each in chain.from_iterable(people.items() for people in self._others):
            if len(found) >= limit:
                break
            found.setdefault(number, each)
        return list(found.values())

    def person(self, number: int) -> Principal | None:
        renamed = None if self._renamed is None else self._renamed.get(number)
        return renamed or self._find(number) or self._elsewhere(number)

    @property
    def seen_elsewhere(self) -> bool:
        return self.here > 0 and self._more > 0

    def end(self) -> None:
        super().end()
        if self.here:
            self._only = self._people = None
            self._noted(self._name)

    def people_here(self, limit: int) -> list[Principal]:
        """Up to `limit` people in this process, by the names that they have here."""
        return super().people(limit)

    def apply_remote(self, before: RemotePeople, now: RemotePeople) -> None:
        """Apply a change of the people in another process."""
        known = {number: self.person(number) for number in before.changed_to(now)}
        others = [now.people if each is before.people else each for each in self._others]
        if not before.people:
            others.append(now.people)
        self._others = tuple(filter(None, others))
        self._more += now.unnamed - before.unnamed
        if before.unnamed != now.unnamed:
            self._tell_count()
        if before.unnamed or now.unnamed:
            self.listing = None
        for number, shown in known.items():
            person, here = now.people.get(number), self._find(number)
            if here is None or shown is None:
                person = self._elsewhere(number)
                self._more += (person is not None) - (shown is not None)
            elif person is not None and person.label != shown.label:
                if self._renamed is None:
                    self._renamed = {}
                self._renamed[number] = person
            elif person is None and self._renamed and not self._is_elsewhere_as(shown):
                self._renamed.pop(number, None)  # the name goes with the connection that had it
                person = here
            else:
                continue
            # A newly named person may have been there unnamed, and is no arrival.
            self._note_change(shown, person, count_only=now.unnamed > 0)

    def _put(self, principal: Principal) -> None:
        super()._put(principal)
        self._noted(self._name)

    def _note(self, principal: Principal, *, here: bool) -> None:
        """Note an arrival or departure here of a person who may be elsewhere as well."""
        self._noted(self._name)
        shown = principal if self._renamed is None else self._renamed.pop(principal.number, principal)
        other = self._elsewhere(principal.number)
        if other is not None:
            self._more += -1 if here else 1
        if here:
            self._note_change(other, shown)
        else:
            self._note_change(shown, other)

    def _rename(self, principal: Principal) -> None:
        shown = self.person(principal.number)
        self._put(principal)
        if self._renamed is not None:
            self._renamed.pop(principal.number, None)
        self._note_change(shown, principal)

    def _note_change(self, before: Principal | None, now: Principal | None, *, count_only: bool = False) -> None:
        """Note how a person's entry in the list has changed; None: no entry."""
        if before is not None and now is not None and before.label == now.label:
            return
        if count_only or len(self) > MAX_NAMED_MEMBERS:
            self._tell_count()
        elif now is not None:
            super()._note(now, here=True)
        elif before is not None:
            super()._note(before, here=False)

    def _tell_count(self) -> None:
        """Send only the count in the next notice."""
        self._unnamed = True
        self._changes = None

    def _is_elsewhere_as(self, shown: Principal) -> bool:
        """Whether this person has this name in another process."""
        found = (people.get(shown.number) for people in self._others)
        return any(each is not None and each.label == shown.label for each in found)

    def _elsewhere(self, number: int) -> Principal | None:
        """The person with this number in another process; if several have one, always the same entry."""
        for people in self._others:
            if number in people:
                return people[number]
        return None
