"""Retention: which records go. `bounds` is the rule of every engine, and `step` is retention in a database.

Owns: the rule, and how much one step removes. May not: know a database, which finds and removes the rows.

A step is one transaction, for which commits may have to wait. A record goes with its reactions and with the text of its
last edit. A step removes at least one of the records that are due, so retention always advances.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from chatserver.log.interface import Keeps
from chatserver.log.rows import state_of

#: Rooms that one step may look at.
ROOMS_STEP = 200
#: Records that one step may remove: about 1 ms, and one sync of the disk. Of each room at least one, if more have some.
FORGET_STEP = 100
#: Reactions to such records that one step may remove, unless its first record alone has more.
REACTIONS_STEP = 1_000

C_contra = TypeVar("C_contra", contravariant=True)
#: A room with records that go: its id, its first offset, and the first offset and the oldest time that it is to keep.
Due = tuple[int, int, int, int]


class Room(NamedTuple):
    """What a room keeps: the offsets after `forgotten` up to `last`.

    Some may be missing: lost with a damaged page, or removed by hand. The one after `forgotten` is there if any is.
    """

    id: int
    name: str
    forgotten: int
    last: int
    time: int | None  # of the first record, if there is one


class RetentionQueries(Protocol[C_contra]):
    """The statements of a database, as a module; those of one step are called in one transaction."""

    def rooms(self, after: int, most: int, connection: C_contra, /) -> Sequence[Room]:
        """The next rooms with ids above `after`, in order."""

    def records(self, due: Sequence[Due], share: int, connection: C_contra, /) -> Iterable[tuple[int, int, int, str]]:
        """Room, offset, time and `more` of at most the first `share` records of each, in order; at least one.

        They stay so until the end.
        """

    def remove(
        self, records: Sequence[tuple[int, int, int]], edits: Sequence[tuple[int, int]], connection: C_contra, /
    ) -> None:
        """Remove records (room, offset and time) with their reactions, and the texts of edits (room and offset)."""


def bounds(kept: tuple[int, int], last: int, now: int) -> tuple[int, int]:
    """The first offset and the oldest time that a room keeps, of this many messages and milliseconds."""
    messages, age_ms = kept
    return (last - messages + 1 if messages else 0), (now - age_ms if age_ms else 0)


def step(
    queries: RetentionQueries[C_contra], keeps: Keeps, after: int, now: int, connection: C_contra
) -> tuple[dict[str, int], int | None]:
    """One step, over rooms with ids above `after`.

    Returns the new first offset of each room that lost something, and the id to go on with (None: done).
    """
    rooms = queries.rooms(after, ROOMS_STEP, connection)
    due: dict[int, Due] = {}
    for room in rooms:
        keep_from, oldest = bounds(keeps(room.name), room.last, now)
        if room.forgotten + 1 < keep_from or (room.time is not None and room.time < oldest):
            due[room.id] = room.id, room.forgotten + 1, keep_from, oldest
    go_on = rooms[-1].id if len(rooms) == ROOMS_STEP else None
    if not due:
        return {}, go_on
    share, reactions = max(FORGET_STEP // len(due), 1), 0
    removed: list[tuple[int, int, int]] = []
    edits: list[tuple[int, int]] = []
    unfinished: list[int] = []
    for id_, offset, time, more in queries.records(list(due.values()), share, connection):
        state = state_of(more)
        reactions += sum(count for _, count in state.reactions)
        if reactions > REACTIONS_STEP and removed:
            unfinished.append(id_)
            break
        removed.append((id_, offset, time))
        if state.edit:
            edits.append((id_, state.edit))
        _, low, _, _ = due[id_]
        if offset >= low + share - 1:
            unfinished.append(id_)
    if removed:
        queries.remove(removed, edits, connection)
    names = {room.id: room.name for room in rooms}
    firsts = {names[id_]: offset + 1 for id_, offset, _ in removed}
    return firsts, unfinished[0] - 1 if unfinished else go_on
