import pytest

from chatserver.client.wire import Deletion, Edit, Message, User
from chatserver.terminal import recall
from chatserver.terminal.recall import Recall

ANN, BOB = User("u_a", "Ann"), User("u_b", "Bob")
TIME = "2026-11-20T12:00:00Z"


def message(offset: int, user: User, room: str = "lobby") -> Message:
    return Message(room, offset, f"e1-{offset}", user, TIME, "hi")


def test_the_latest_people_and_messages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may run for months."""
    monkeypatch.setattr(recall, "MAX_RECALLED", 2)
    memory = Recall()
    for offset, number in enumerate((1, 2, 1, 3), 1):
        memory.take(message(offset, User(f"u_{number}", f"n{number}")))
    assert list(memory.people) == ["u_1", "u_3"]
    assert [memory.quote("lobby", offset) for offset in (None, 2, 3)] == ["", "#2", "#3 n1: hi"]


def test_messages_are_quoted_in_their_present_state_and_found_by_room_and_author() -> None:
    """A deleted one is not found as the last: `/delete` and then `/edit` asked for the same message."""
    memory = Recall()
    for record in (
        message(1, ANN), Edit("lobby", 2, "e1-2", ANN, TIME, 1, "better"),
        message(3, ANN), Deletion("lobby", 4, "e1-4", ANN, TIME, 3), message(5, BOB, "ops"),
    ):  # fmt: skip
        memory.take(record)
    assert [memory.quote("lobby", offset) for offset in (1, 3)] == ["#1 Ann: better", "#3 Ann: (deleted)"]
    assert [memory.last(room) for room in ("lobby", "ops", "den")] == [1, 5, None]
    assert [memory.last("ops", by=by, but=but) for by, but in ((BOB, None), (ANN, None), (None, BOB), (None, ANN))] == [
        5, None, None, 5,
    ]  # fmt: skip
    assert memory.newest() == {"lobby": 3, "ops": 5}


def test_older_messages_are_quoted_but_are_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/edit` and `/delete` without a number must not take one of them, nor forget newer ones for them."""
    monkeypatch.setattr(recall, "MAX_RECALLED", 4)
    memory = Recall()
    for offset in (6, 7):
        memory.take(message(offset, ANN))
    memory.take_older([message(4, User("u_a", "Anna")), message(5, BOB)])
    memory.take_older([message(3, BOB)])
    assert [memory.quote("lobby", offset) for offset in (3, 4, 7)] == ["#3", "#4 Anna: hi", "#7 Ann: hi"]
    assert (memory.last("lobby"), memory.newest(), memory.reached) == (7, {"lobby": 7}, {"lobby": 7})
    assert [*memory.people.items()] == [("u_b", "Bob"), ("u_a", "Ann")], "a known name is newer, and so is its user"
