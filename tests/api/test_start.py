"""Where reading starts for a cursor, and whether anything is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.api.pages import Start, resolve
from chatserver.protocol.validation import Place

EPOCH = "e1"


@pytest.mark.parametrize(
    ("place", "start"),
    [
        (None, Start(70, recovered=True, latest=True)),
        (Place(EPOCH, 90), Start(90, recovered=True)),
        (Place(None, 90), Start(90, recovered=True)),
        (Place(EPOCH, 100), Start(100, recovered=True)),
        (Place(EPOCH, 101), Start(70, recovered=False, latest=True)),
        (Place("e0", 90), Start(70, recovered=False, latest=True)),
        (Place(EPOCH, 49), Start(49, recovered=True)),
        (Place(EPOCH, 48), Start(49, recovered=False)),
        (Place(EPOCH, 0), Start(49, recovered=False)),
    ],
)
def test_in_a_room_that_keeps_50_to_100(place: Place | None, start: Start) -> None:
    assert resolve(place, epoch=EPOCH, first=50, last=100, newest=30) == start


def test_a_room_never_written() -> None:
    assert resolve(None, epoch=EPOCH, first=1, last=0, newest=50) == Start(0, recovered=True, latest=True)
    assert resolve(Place(EPOCH, 0), epoch=EPOCH, first=1, last=0, newest=50) == Start(0, recovered=True)


def test_a_room_of_which_nothing_is_kept() -> None:
    assert resolve(None, epoch=EPOCH, first=101, last=100, newest=50) == Start(100, recovered=True, latest=True)
    assert resolve(Place(EPOCH, 40), epoch=EPOCH, first=101, last=100, newest=50) == Start(100, recovered=False)


@given(
    place=st.none() | st.builds(Place, st.sampled_from([None, EPOCH, "e0"]), st.integers(0, 30)),
    first=st.integers(1, 20),
    kept=st.integers(0, 20),
    newest=st.integers(0, 20),
)
def test_recovered_means_nothing_is_missing(place: Place | None, first: int, kept: int, newest: int) -> None:
    last = first - 1 + kept
    start = resolve(place, epoch=EPOCH, first=first, last=last, newest=newest)
    assert first - 1 <= start.offset <= last, "everything behind a start can be given"
    if place is not None and start.recovered:
        assert start.offset == place.offset
        assert place.epoch in {None, EPOCH}


def test_a_place_ahead_of_the_news_is_not_lost() -> None:
    """A page read from the log between a commit and its news gave a cursor that the room did not know yet; a poll
    from there was told that something was gone."""
    assert resolve(Place(EPOCH, 103), epoch=EPOCH, first=1, last=100, newest=30, coming=3) == Start(103, recovered=True)
    assert not resolve(Place(EPOCH, 104), epoch=EPOCH, first=1, last=100, newest=30, coming=3).recovered
    assert not resolve(Place("other", 103), epoch=EPOCH, first=1, last=100, newest=30, coming=3).recovered
