import pytest

from chatserver.client import recall
from chatserver.client.recall import Recall
from chatserver.client.wire import Message, User


def test_the_latest_people_and_messages_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may run for months."""
    monkeypatch.setattr(recall, "MAX_RECALLED", 2)
    memory = Recall()
    for number in (1, 2, 3):
        user = User(f"u_{number}", f"n{number}")
        memory.take(Message("lobby", number, f"e1-{number}", user, "2026-11-20T12:00:00Z", "hi"))
    assert list(memory.people) == ["u_2", "u_3"]
    assert [memory.quote("lobby", number) for number in (1, 2)] == ["#1", "#2 n2: hi"]
