"""Slow mode: one message per interval, for each user in each room that has it."""

import pytest
import trio
import trio.testing

from chatserver.chat import slow_mode
from chatserver.chat.principal import Principal
from chatserver.chat.slow_mode import SlowMode
from chatserver.meters import SWEPT
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
    assert not slow._last


async def test_other_rooms_and_moderators_are_not_limited(autojump_clock: trio.testing.MockClock) -> None:
    slow = made(lobby=30.0, ops=10.0)
    second = Moderator(3, "192.0.2.1")
    assert [slow.take(ANN, "den") for _ in range(3)] == [0.0] * 3
    assert [slow.take(second, "lobby") for _ in range(3)] == [0.0] * 3
    assert not slow._last
    assert [slow.take(ANN, "lobby"), slow.take(ANN, "ops"), slow.take(ANN, "ops")] == [0.0, 0.0, 10.0]


async def test_only_the_last_message_may_be_retried_and_not_for_long(autojump_clock: trio.testing.MockClock) -> None:
    """The log forgets a key, and would then store another message."""
    slow = made(lobby=3600.0, ops=3600.0)
    assert [slow.take(ANN, "lobby", "k1"), slow.take(BOB, "lobby", "k1")] == [0.0, 0.0]
    assert [slow.take(ANN, "lobby", key) for key in ("k1", "k2", None, "k1")] == [0.0, 3600.0, 3600.0, 0.0]
    await trio.sleep(slow_mode.RETRY_SECONDS)
    assert slow.take(ANN, "lobby", "k1") > 0.0
    await trio.sleep(3600.0)
    assert [slow.take(BOB, "lobby", key) for key in (None, "k1")] == [0.0, 3600.0]


async def test_pauses_are_bounded_and_the_oldest_ends_early(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_mode, "MAX_PAUSES", 2)
    slow = made(lobby=30.0, ops=30.0)
    assert [slow.take(who, room) for who, room in ((ANN, "lobby"), (BOB, "lobby"), (ANN, "ops"))] == [0.0] * 3
    assert [slow.take(BOB, "lobby"), slow.take(ANN, "ops"), slow.take(ANN, "lobby")] == [30.0, 30.0, 0.0]
    await trio.sleep(30.0)
    assert [slow.take(who, room) for who, room in ((ANN, "ops"), (BOB, "lobby"), (ANN, "ops"))] == [0.0, 0.0, 30.0]


async def test_a_sweep_of_many_pauses_looks_at_some(autojump_clock: trio.testing.MockClock) -> None:
    """One that looked at ten thousand, as a single client can make, held up the loop for milliseconds each second."""
    slow = made(lobby=30.0)
    for number in range(SWEPT + 1):
        assert slow.take(Principal(number, "192.0.2.1"), "lobby") == 0.0
    await trio.sleep(30.0)
    left = []
    for _ in range(2):
        slow.sweep()
        left.append(len(slow._last))
    assert left == [1, 0]
