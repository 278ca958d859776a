"""Where somebody stands in a room, and whether everything after that place can still be given.

Owns: the one decision behind `recovered`. May not: read anything; the ends of the room are given.
"""

import msgspec


class Place(msgspec.Struct, frozen=True, gc=False):
    """A cursor as a client gave it: `epoch` is None when it sent a bare offset."""

    epoch: str | None
    offset: int


class Start(msgspec.Struct, frozen=True, gc=False):
    """Where to go on: after `offset`; `recovered` is False when something the client lacks is gone."""

    offset: int
    recovered: bool
    latest: bool = False  # no place the client named: the newest count, and a short page leaves out the older ones


def resolve(place: Place | None, *, epoch: str, first: int, last: int, newest: int, coming: int = 0) -> Start:
    """Find the start for a cursor in a room that keeps the offsets `first` to `last`.

    None starts before the `newest` few. Another epoch, or a place that this epoch never reached, means that the
    client's log is not ours: it gets the same, and is told. A place before `first` means that retention passed it: it
    goes on from the oldest. `coming` messages may be in the log already and not yet in the news: a page read from the
    log may have told the client of them.
    """
    fresh = max(first - 1, last - newest)
    if place is None:
        return Start(fresh, recovered=True, latest=True)
    if (place.epoch is not None and place.epoch != epoch) or place.offset > last + coming:
        return Start(fresh, recovered=False, latest=True)
    if place.offset < first - 1:
        return Start(first - 1, recovered=False)
    return Start(place.offset, recovered=True)
