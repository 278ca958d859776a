"""session.py: a room whose reader is slow, and gaps in what the server pushes, are read page by page."""

import pytest

from tests.client.scripted_session import Peer, offsets


def test_a_paused_room_keeps_its_cursor_only(peer: Peer) -> None:
    peer.session.pause("lobby")
    for offset in range(2, 5000):
        assert peer.push(offset) == []
    peer.give("gap", room="lobby", after="e1-4998", until="e1-4999")
    assert peer.sends_nothing()
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 2, 3)) == [2, 3]
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 4)) == [4]
    assert peer.sends_nothing(), "it is paused again"
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 5, 4999)) == [5, 4999]
    assert offsets(peer.push(5000)) == [5000]
    peer.session.pause("lobby")
    peer.session.resume("lobby")
    assert peer.sends_nothing(), "nothing came meanwhile"
    assert offsets(peer.push(5001)) == [5001]
    assert [*peer.push(5004), *peer.push(5006)] == []
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 5002)) == [5002]
    peer.session.resume("lobby")
    assert offsets(peer.answer("history", 5003)) == [5003], "what was held is read again"
    assert [offsets(peer.answer("history", 5004)), offsets(peer.answer("history", 5005, 5006))] == [
        [5004],
        [5005, 5006],
    ]
    peer.push(5008)
    peer.session.pause("lobby")
    assert offsets(peer.answer("history", 5007)) == [5007, 5008], "nothing is left to be read later"
    assert peer.sends_nothing()


@pytest.mark.parametrize("pauses", [False, True])
def test_after_a_gap_pages_are_read_to_its_end(peer: Peer, *, pauses: bool) -> None:
    if pauses:
        peer.session.pause("lobby")
    assert peer.give("gap", room="lobby", after="e1-1", until="e1-4") == []
    peer.session.resume("lobby")
    assert [offsets(peer.answer("history", *page)) for page in ((2, 3), (4,))] == [[2, 3], [4]]
    assert peer.sends_nothing()
