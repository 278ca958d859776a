"""Who is in a room: counted by user, told in batches.

Owns: the counts, the leases of pollers, what changed since it was last told. May not: send, or read a clock.

A user is present once, however many windows are open. A poller is present while its poll is held and for a lease
after each answer, so that the moment between two polls does not read as leaving. Changes are collected and told at
most once a second, less often in large rooms, and without names there: 9,000 people who each hear of 9,000 arrivals
would be 81 million deliveries; counted, they are one delivery each, now and then.
"""

from collections.abc import Iterator

#: Seconds a poller stays present after an answer: a slow phone's round trips and a polite client's pause.
LEASE = 10.0
#: Seconds between two tellings in a small room.
TELL_EVERY = 1.0
#: Tellings to members a second that one room may cost; a room of 5,000 hears of changes every 10 s.
TELL_RATE = 500
#: Members up to which arrivals and departures are told by name.
NAMED_ROOM = 100
#: Names in one answer to `members`.
MAX_LISTED = 500


class Presence:
    """The users of one room, by number."""

    __slots__ = ("_count", "_joined", "_leases", "_left", "_unnamed", "listing", "tell_after")

    def __init__(self) -> None:
        self._count: dict[int, int] = {}
        self._leases: dict[int, float] = {}
        self._joined: dict[int, None] = {}
        self._left: dict[int, None] = {}
        self._unnamed = False  # the room was large when something changed: only the count is told
        self.tell_after = 0.0
        #: `users` as clients read it, kept by whoever made it; as old as the last telling in a large room, where making
        #: it takes a millisecond and somebody may ask and come and go all the time
        self.listing: bytes | None = None

    def __len__(self) -> int:
        return len(self._count)

    def users(self, limit: int = MAX_LISTED) -> Iterator[int]:
        """Some of those present, in the order they came."""
        for _, user in zip(range(limit), self._count, strict=False):
            yield user

    def enter(self, user: int) -> None:
        """One more connection of this user."""
        if self._leases.pop(user, None) is not None:
            return  # the lease's place is taken over
        count = self._count.get(user, 0)
        self._count[user] = count + 1
        if count == 0:
            self._note(user, self._joined, self._left)

    def seat(self, user: int) -> None:
        """A user who was here before anything was counted: nobody is told."""
        self._count[user] = 1

    def leave(self, user: int) -> None:
        """One less."""
        count = self._count[user]
        if count > 1:
            self._count[user] = count - 1
            return
        del self._count[user]
        self._note(user, self._left, self._joined)

    def leave_by(self, user: int, deadline: float) -> None:
        """One less, at a later time, unless the user comes back before."""
        if user in self._leases:
            self.leave(user)
        self._leases[user] = deadline

    def expire(self, now: float) -> None:
        """End the leases that have run out."""
        for user in [user for user, deadline in self._leases.items() if deadline <= now]:
            del self._leases[user]
            self.leave(user)

    @property
    def leased(self) -> bool:
        """Whether somebody is present by lease only."""
        return bool(self._leases)

    def _note(self, user: int, into: dict[int, None], out_of: dict[int, None]) -> None:
        if len(self._count) > NAMED_ROOM:
            self._unnamed = True
            self._joined.clear()
            self._left.clear()
        else:
            self.listing = None
        if self._unnamed:
            return  # names from before the room grew, or after it shrank, would be a part of the truth only
        if user in out_of:
            del out_of[user]  # came and went between two tellings: nothing to tell
        else:
            into[user] = None

    @property
    def changed(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._joined or self._left or self._unnamed)

    def tell(self, now: float) -> tuple[list[int], list[int]]:
        """Who joined and who left since the last call; both empty in a large room, where only the count is told."""
        joined, left = list(self._joined), list(self._left)
        self._joined.clear()
        self._left.clear()
        self._unnamed = False
        self.listing = None
        self.tell_after = now + max(TELL_EVERY, len(self._count) / TELL_RATE)
        return joined, left
