"""Slow mode: one message per interval, for each user in each room that has it."""

import trio
import trio.testing

from chatserver.chat.policy import Action
from chatserver.chat.principal import Principal
from chatserver.chat.slow_mode import SlowMode
from tests.chat.test_moderation import Moderator

ANN, BOB = Principal(1, "192.0.2.1"), Principal(2, "192.0.2.1")


def made(**rooms: float) -> SlowMode:
    return SlowMode(lambda room: rooms.get(room, 0.0))


async def test_one_message_per_interval(autojump_clock: trio.testing.MockClock) -> None:
    slow = made(lobby=30.0)
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "lobby"), slow.take(BOB, "lobby")] == [0.0, 30.0, 0.0]
    await trio.sleep(29.0)
    slow.sweep()
    assert slow.take(ANN, "lobby") == 1.0
    await trio.sleep(1.0)
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "lobby")] == [0.0, 30.0], "a refusal does not extend the wait"
    await trio.sleep(30.0)
    slow.sweep()
    assert len(slow._pauses) == 0


async def test_other_rooms_and_moderators_are_not_limited(autojump_clock: trio.testing.MockClock) -> None:
    slow = made(lobby=30.0, ops=10.0)
    moderator = Moderator(3, "192.0.2.1")
    assert [slow.take(ANN, "den") for _ in range(3)] == [0.0] * 3
    assert [slow.take(moderator, "lobby") for _ in range(3)] == [0.0] * 3
    assert len(slow._pauses) == 0
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "ops"), slow.take(ANN, "ops")] == [0.0, 0.0, 10.0]
    assert moderator.may(Action.MODERATE, "lobby")
