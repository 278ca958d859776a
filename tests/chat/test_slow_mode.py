"""Slow mode: one message per interval, for each user in each room that has it."""

import pytest

from chatserver.chat import slow_mode as slow_mode_module
from chatserver.chat.principal import Action, Principal
from chatserver.chat.slow_mode import SlowMode
from tests.chat.test_moderation import Moderator

ANN, BOB = Principal(1, "192.0.2.1"), Principal(2, "192.0.2.1")


class Watch:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def made(watch: Watch, **rooms: float) -> SlowMode:
    return SlowMode(lambda room: rooms.get(room, 0.0), watch)


def test_one_message_per_interval() -> None:
    watch = Watch()
    slow = made(watch, lobby=30.0)
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "lobby"), slow.take(BOB, "lobby")] == [0.0, 30.0, 0.0]
    watch.now = 29.0
    assert slow.take(ANN, "lobby") == 1.0
    watch.now = 30.0
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "lobby")] == [0.0, 30.0], "a refusal does not extend the wait"


def test_other_rooms_and_moderators_are_not_limited() -> None:
    slow = made(Watch(), lobby=30.0, ops=10.0)
    moderator = Moderator(3, "192.0.2.1")
    assert [slow.take(ANN, "den") for _ in range(3)] == [0.0] * 3
    assert [slow.take(moderator, "lobby") for _ in range(3)] == [0.0] * 3
    assert len(slow) == 0
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "ops"), slow.take(ANN, "ops")] == [0.0, 0.0, 10.0]
    assert moderator.may(Action.MODERATE, "lobby")


def test_expired_entries_are_removed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step, 50,000 entries made by guests of one network would take 4 ms, once a second."""
    monkeypatch.setattr(slow_mode_module, "SWEEP", 3)
    watch = Watch()
    slow = made(watch, lobby=30.0, ops=10.0)
    for number in range(5):
        slow.take(Principal(number, "192.0.2.1"), "lobby")
        slow.take(Principal(number, "192.0.2.1"), "ops")
    left = []
    for now in (9.9, 9.9, 9.9, 9.9, 10.0, 10.0, 10.0, 10.0, 30.0, 30.0, 30.0):
        watch.now = now
        slow.sweep()
        left.append(len(slow))
    assert left == [10, 10, 10, 10, 8, 7, 5, 5, 2, 0, 0]


def test_the_number_of_entries_is_limited_and_the_first_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_mode_module, "MAX_REMEMBERED", 2)
    slow = made(Watch(), lobby=30.0)
    for number in range(5):
        assert slow.take(Principal(number, "192.0.2.1"), "lobby") == 0.0
    assert len(slow) == 2
    assert slow.take(Principal(4, "192.0.2.1"), "lobby") == 30.0
