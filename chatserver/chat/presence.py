"""The people in a room: counted by user, changes sent in batches.

Owns: the counts, the leases, the changes since they were last sent. May not: send, or read a clock.

A user is present once, however many windows are open, and for a lease after a connection or a held poll has ended: a
reload is no departure, and neither is the pause between two polls. Changes are sent together, at most once a second; in
large rooms less often, and without names: to tell 9,000 people of 9,000 arrivals would be 81 million deliveries.
"""

import math
from collections.abc import Iterator
from itertools import islice, takewhile

from chatserver.chat.principal import Principal

#: Seconds between two presence notices in a small room.
NOTICE_INTERVAL = 1.0
#: Presence notices a second to all members of one room together: a member of a large room gets the count about as
#: often as it is pinged (a room of 5,000 every 25 s), which an idle member costs anyway.
NOTICES_PER_SECOND = 200
#: Members up to which arrivals and departures are sent by name.
MAX_NAMED_MEMBERS = 100
#: People named in one notice; the others wait for the next. A name and an id take up to 200 bytes: with all changes in
#: one notice, a member at 3 KB/s got its messages ten seconds late while a stranger's connections came and went.
MAX_TOLD = 10
#: Changes that wait to be sent by name: as many as if all members of such a room left and as many others came. Beyond
#: that only the count is sent.
MAX_CHANGES = 2 * MAX_NAMED_MEMBERS
#: Leases ended in one step: 0.1 ms.
EXPIRE_STEP = 200
#: Names in one answer to `members`.
MAX_LISTED = 500


class Presence:
    """The people of one room, by number; all leases have the same length.

    Each room has such an object, so it is small. A dict takes 224 bytes, and anybody can be alone in many rooms. An
    emptied dict is dropped, since it keeps the memory of its largest size.
    """

    __slots__ = ("_changes", "_connections", "_leases", "_only", "_people", "_unnamed", "listing", "sent_at")

    def __init__(self) -> None:
        self._only: Principal | None = None  # the one person here, while there is no dict
        self._people: dict[int, Principal] | None = None  # made for the second person
        self._connections: dict[int, int] | None = None  # number of connections of people with more than one
        self._leases: dict[int, float] | None = None
        self._changes: dict[int, tuple[Principal, bool]] | None = None  # the last change of each person; True: here
        self._unnamed = False  # send only the count: the room was large at a change, or there were too many changes
        self.sent_at = -math.inf  # time of the last notice
        #: the encoded answer to `users`, kept by its maker; in a large room, where encoding takes a millisecond, it may
        #: be as old as the last notice
        self.listing: bytes | None = None

    def __len__(self) -> int:
        return self.here

    def people(self, limit: int = MAX_LISTED) -> list[Principal]:
        """Up to `limit` people present, in the order they came."""
        people = filter(None, [self._only]) if self._people is None else self._people.values()
        return list(islice(people, limit))

    def person(self, number: int) -> Principal | None:
        return self._find(number)

    def _find(self, number: int) -> Principal | None:
        found = self._only if self._people is None else self._people.get(number)
        return found if found is not None and found.number == number else None

    def _put(self, principal: Principal) -> None:
        """Add a person, or replace the principal of one who is here."""
        only = self._only
        if self._people is not None:
            self._people[principal.number] = principal
        elif only is None or only.number == principal.number:
            self._only = principal
        else:
            self._people = {only.number: only, principal.number: principal}
            self._only = None

    def enter(self, principal: Principal) -> None:
        """A person has one more connection here."""
        number = principal.number
        before = self._find(number)
        if before is None:
            self._put(principal)
            self._note(principal, here=True)
            return
        if before.label != principal.label:
            self._rename(principal)
        elif before.network != principal.network:
            self._put(principal)  # a ban of the user's network is for the one it came from last
        if self._pop_lease(number):
            return  # the connection takes the place of the lease
        if self._connections is None:
            self._connections = {}
        self._connections[number] = self._connections.get(number, 1) + 1

    def leave(self, number: int) -> None:
        """A person has one connection less here."""
        if self._connections is not None and (count := self._connections.pop(number, 1)) > 1:
            if count > 2:
                self._connections[number] = count - 1
            elif not self._connections:
                self._connections = None
            return
        gone, people = self._only, self._people
        if people is None:
            self._only = None
        else:
            gone = people.pop(number)
            if not people:
                self._people = None
        assert gone is not None, "who leaves was here"
        self._note(gone, here=False)

    def end_lease(self, number: int) -> bool:
        """End the lease of a user who has left or was expelled. False: there is none."""
        ended = self._pop_lease(number)
        if ended:
            self.leave(number)
        return ended

    def _pop_lease(self, number: int) -> bool:
        if self._leases is None or self._leases.pop(number, None) is None:
            return False
        if not self._leases:
            self._leases = None
        return True

    def change(self, before: Principal, now: Principal) -> None:
        """A connection now belongs to another person, or to the same with another name."""
        self.enter(now)
        self.leave(before.number)

    def leave_by(self, number: int, deadline: float) -> None:
        """A person will have one connection less at a deadline, unless it comes back before: a lease."""
        self.end_lease(number)
        if self._leases is None:
            self._leases = {}
        self._leases[number] = deadline  # at the end: deadlines only grow

    def expire(self, now: float) -> bool:
        """End the next expired leases. True: some ended, and there may be more."""
        leases = self._leases or {}
        ended = list(islice(takewhile(lambda number: leases[number] <= now, leases), EXPIRE_STEP))
        for number in ended:
            self.end_lease(number)
        return bool(ended)

    def connections(self, number: int) -> int:
        """The number of this person's connections here, a lease included."""
        if self._find(number) is None:
            return 0
        return 1 if self._connections is None else self._connections.get(number, 1)

    def leaseholders(self) -> Iterator[Principal]:
        """The people with a lease, each looked up when it is asked for: there may be 100,000."""
        return filter(None, map(self._find, list(self._leases or ())))

    @property
    def leases(self) -> int:
        """The number of people with a lease."""
        return len(self._leases or ())

    def _note(self, principal: Principal, *, here: bool) -> None:
        people = self._people
        is_large = people is not None and len(people) > MAX_NAMED_MEMBERS
        if not is_large:
            self.listing = None
        if is_large or len(self._changes or ()) >= MAX_CHANGES:
            self._unnamed = True
            self._changes = None
        if self._unnamed:
            return
        if self._changes is None:
            self._changes = {}
        # A person who came and left since the last notice is sent too: a client may have fetched the list in between.
        self._changes[principal.number] = (principal, here)

    def _rename(self, principal: Principal) -> None:
        """Note a new name as an arrival: clients take the arrival of a present person as a new name."""
        self._put(principal)
        self._note(principal, here=True)

    @property
    def here(self) -> int:
        """The number of people in this process."""
        if self._people is None:
            return 0 if self._only is None else 1
        return len(self._people)

    @property
    def seen_elsewhere(self) -> bool:
        """Whether people in another process see the people here."""
        return False

    def end(self) -> None:
        """The room leaves memory; leases are dropped."""
        self._leases = None

    @property
    def changed(self) -> bool:
        """Whether there are changes to send."""
        return bool(self._changes or self._unnamed)

    def may_send(self, now: float) -> bool:
        """Whether the last notice is long enough ago for a room of this size."""
        return now >= self.sent_at + max(NOTICE_INTERVAL, self.here / NOTICES_PER_SECOND)

    def take_changes(self, now: float) -> tuple[list[Principal], list[Principal]]:
        """Take the next changes: people who came or changed their names, and people who left.

        Both are empty in a large room, where only the count is sent.
        """
        waiting = self._changes or {}
        changes = [waiting.pop(number) for number in list(islice(waiting, MAX_TOLD))]
        self._changes = waiting or None
        self._unnamed = False
        self.listing = None
        self.sent_at = now
        return [who for who, here in changes if here], [who for who, here in changes if not here]
