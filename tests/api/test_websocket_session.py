"""The linked list of the rooms of a WebSocket, against a dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from chatserver.api.dialect import Dialect
from chatserver.api.websocket_session import WebSocketSession
from chatserver.chat.member import Member
from chatserver.chat.presence import Presence
from chatserver.chat.principal import Principal
from chatserver.chat.ring import RingSize
from chatserver.chat.room import Room
from chatserver.meters import ByteBudget
from tests.support.scripted import LineEncoder

ANN = Principal(1, "here")
SIZE = RingSize(LineEncoder(), max_count=16, max_bytes=1000, budget=ByteBudget(1 << 20))


def member_of(name: str) -> Member:
    return Member(Room(name, SIZE, Presence(), network="here"), None, LineEncoder().frames, 0)


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.booleans()), min_size=8, max_size=40))
def test_against_a_dictionary(acts: list[tuple[str, bool]]) -> None:
    session = WebSocketSession(ANN, Dialect())
    model: dict[str, Member] = {}
    for name, enters in acts:
        if enters and name not in model:
            model[name] = member_of(name)
            session.add(model[name])
        elif not enters and name in model:
            gone = model.pop(name)
            session.remove(gone)
            assert gone.next is None
        assert list(session.rooms()) == list(model.values())[::-1]
        for each in "abcde":
            assert session.find(each) is model.get(each)


@given(st.sets(st.sampled_from("abcde"), min_size=1), st.data())
def test_a_room_may_become_the_last_and_the_others_keep_their_order(names: set[str], data: st.DataObject) -> None:
    session = WebSocketSession(ANN, Dialect())
    for name in names:
        session.add(member_of(name))
    before = list(session.rooms())
    at = data.draw(st.integers(0, len(before) - 1))
    session.make_last(before[at])
    assert list(session.rooms()) == before[at + 1 :] + before[: at + 1]
