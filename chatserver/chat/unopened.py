"""Rooms that one member has joined and nobody has written in: a name and a member, and no room yet.

Owns: who is alone in which. May not: make rooms, or know what is in the log.

A room opens when a second one comes, or something is said; until then there is nothing to keep but who waits there: 250
bytes instead of 1,500. Names cost nothing to whoever makes them up, and a connection may join a hundred.
"""

from collections.abc import Iterator

from chatserver.chat.member import Member, State
from chatserver.chat.room import Room


class Unopened:
    """The members who are alone, by the names of their rooms."""

    def __init__(self, nowhere: Room) -> None:
        self._nowhere = nowhere  # an empty room, for all of them: nothing is ever new in it
        self._alone: dict[str, Member] = {}

    def __len__(self) -> int:
        return len(self._alone)

    def __iter__(self) -> Iterator[str]:
        return iter(self._alone)

    def close(self, room: Room) -> Member | None:
        """Keep the only member of a room instead of the room, if nothing else is in it."""
        if room.last or room.pins or room.holds or room.pending or room.queued or len(room.members) != 1:
            return None
        (member,) = room.members
        if len(room.presence) != 1 or room.presence.leased:
            return None
        room.cut(0)  # an answer may have been kept for it
        room.members.clear()
        member.room = self._nowhere
        member.alone_in = room.name
        member.state = State.ALONE
        self._alone[room.name] = member
        return member

    def open(self, room: Room) -> None:
        """Bring whoever is alone under the name of a new room into it."""
        member = self._alone.pop(room.name)
        member.room = room
        member.alone_in = None
        member.state = State.LIVE
        room.members[member] = None
        room.presence.seat(member.user)

    def leave(self, member: Member) -> None:
        """It goes."""
        del self._alone[member.room_name]

    def user(self, name: str) -> int | None:
        """Who is alone there, by user number."""
        member = self._alone.get(name)
        return None if member is None else member.user
