"""The honest slow in rooms: what they do, what they bear, and what they call a failure."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from wsproto import events

from loadgen.clients.client import Stage
from loadgen.net.wire import FIN, TEXT, frame
from loadgen.personas import registry, slow_honest
from tests.loadgen.stage import (
    Play,
    WebSocket,
    listening,
    playing,
    reset,
    talking,
    until,
)
from tests.support.darkness import needs_darkness

MEMBERS = ("phone-2g", "sleepy-tab", "tunnel", "office")
MEMBER_PERSONAS = (slow_honest.Phone2G, slow_honest.SleepyTab, slow_honest.Tunnel)
#: Seconds after joining at which the last of the first messages is judged, by persona.
JUDGED = {persona: persona.speaks_first[1] + persona.patience_seconds for persona in MEMBER_PERSONAS}
CYCLES = {persona: persona.cycle_seconds for persona in MEMBER_PERSONAS}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = {"speaks_first": (0.1, 0.2), "speaks_every": (0.1, 0.2)}
    changes: tuple[tuple[object, dict[str, Any]], ...] = (
        (slow_honest, {"ROUND_TRIP_SECONDS": 0.05, "READ_EVERY_SECONDS": 0.02}),
        (slow_honest.Office, soon),
        (slow_honest.Phone2G, {**soon, "dark_seconds": 0.1, "first_in_touch": (600.0, 600.0)}),
        (slow_honest.SleepyTab, {"speaks_first": (0.0, 0.1), "speaks_every": (0.1, 0.1)}),
        (
            slow_honest.Tunnel,
            {"speaks_first": (0, 0.05), "first_in_touch": (0.1, 0.2), "in_touch": (0.1, 0.2), "dark_seconds": 0.1},
        ),
    )
    for module, names in changes:
        for name, value in names.items():
            monkeypatch.setattr(module, name, value)


@asynccontextmanager
async def _joined(name: str) -> AsyncIterator[tuple[Play, WebSocket]]:
    async with talking(name) as (play, room):
        await _join(room)
        await until(lambda: play.cohort.held)
        yield play, room


async def _join(room: WebSocket) -> None:
    assert await room.hear() == {"type": "join", "id": -1, "room": "lobby"}
    await room.say(type="joined", id=-1, room="lobby", cursor="e-7", messages=[], members=1)


async def _tell(room: WebSocket, offset: int) -> None:
    await room.say(type="message", room="lobby", offset=offset, text="x")


# All of them


@pytest.mark.parametrize("name", MEMBERS)
async def test_what_they_say_is_to_be_acknowledged(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with _joined(name) as (play, room):
        for number in range(1, 3):
            said = await room.hear()
            assert (said["type"], said["id"], said["room"]) == ("publish", number, "lobby")
            await _tell(room, number)
            await room.say(type="ack", id=number)
        monkeypatch.setattr(registry()[name], "patience_seconds", 0.3)  # with the next message
        await until(lambda: play.cohort.ended == {"no answer in time: a message not acknowledged in 0.3 s": 1})
        assert play.client.stage is Stage.OVER, "no honest user is counted twice"


def test_a_cycle_lasts_until_the_first_message_is_judged() -> None:
    """A server that ignored all messages of phones, tabs and trains was held: each run ended before their patience."""
    assert all(JUDGED[persona] <= CYCLES[persona] for persona in MEMBER_PERSONAS)


async def test_what_they_say_is_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a server could stop delivering to the slow for good: without a later offset no message is seen to be lost."""
    async with _joined("office") as (play, room):
        await room.say(type="ack", id=1_000)  # and of all messages before
        await until(lambda: play.client._acknowledged)  # type: ignore[attr-defined]
        monkeypatch.setattr(registry()["office"], "patience_seconds", 0.3)  # with the next message
        await until(
            lambda: play.cohort.ended == {"no answer in time: nothing delivered in 0.3 s, its own message neither": 1}
        )


async def test_a_gap_that_is_announced_is_a_delivery() -> None:
    async with _joined("office") as (play, room):
        assert (await room.hear())["id"] == 1
        await room.say(type="gap", room="lobby", after="e-9", until="e-19")
        await room.say(type="ack", id=1)
        await until(lambda: play.client._acknowledged)  # type: ignore[attr-defined]
        play.client._check(1, 0)  # type: ignore[attr-defined]
        assert not play.cohort.ended, "its patience is over"


@pytest.mark.parametrize(
    ("told", "ended"),
    [
        ([8, 9, 11], {"a message was lost": 1}),
        ([8, 8], {"a message came twice": 1}),
        ([8, 9, "gap", 20, 21], {}),
        ([0, 0, 0], {}),
        ([1, "edit", "reaction", "delete", 5], {}),  # each takes an offset
    ],
)
async def test_lost_messages_are_missed_unless_the_server_owns_up(told: list[int | str], ended: dict[str, int]) -> None:
    async with _joined("office") as (play, room):
        messages, offset = 0, 0
        for each in told:
            if isinstance(each, int):
                messages, offset = messages + 1, each
                await _tell(room, offset)
            else:
                offset += 1
                await room.say(type=each, room="lobby", offset=offset)
        await until(lambda: play.cohort.ended == ended and play.cohort.deliveries == messages)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("reason", ["error rate_limited", "close 1012"])
async def test_pings_are_answered_and_a_refusal_or_a_close_is_a_failure_even_with_a_kind_word(
    name: str, reason: str
) -> None:
    async with _joined(name) as (play, room):
        await room.send(events.Ping(b"there?"))
        while not isinstance(heard := await room.receive(), events.Pong):
            pass
        assert heard.payload == b"there?"
        if reason == "close 1012":
            await room.say(type="goaway", reason="restart", retry_after=1)
            await room.send(events.CloseConnection(1012))
        else:
            await room.say(type="error", id=(await room.hear())["id"], code="rate_limited")
        await until(lambda: play.cohort.ended == {reason: 1})


# Each of them


async def test_the_phone_reads_little_at_a_time() -> None:
    async with _joined("phone-2g") as (play, room):
        assert isinstance(room.stream, trio.SocketStream)
        room.stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
        before, begun = play.cohort.received_bytes, trio.current_time()
        text = "x" * 1000
        for number in range(20):
            await room.say(type="message", room="lobby", offset=number + 1, text=text)
        await until(lambda: play.cohort.deliveries == 20)
        reads = (play.cohort.received_bytes - before) / slow_honest.Phone2G.read_bytes
        assert trio.current_time() - begun >= (reads - 2) * slow_honest.READ_EVERY_SECONDS


@needs_darkness
async def test_the_phone_is_out_of_touch_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said as soon as it is out of touch arrives when it is back."""
    lose, regain, arrived = slow_honest.Phone2G.lose_touch, slow_honest.Phone2G.regain_touch, list[int]()

    def lose_touch(phone: slow_honest.Phone2G) -> None:
        assert isinstance(room.stream, trio.SocketStream)
        lose(phone)
        os.write(room.stream.socket.fileno(), frame(FIN | TEXT, b'{"type":"message","offset":8,"text":"x"}', mask=None))

    def regain_touch(phone: slow_honest.Phone2G) -> None:
        arrived.append(phone.cohort.deliveries)
        regain(phone)

    monkeypatch.setattr(slow_honest.Phone2G, "first_in_touch", (0.1, 0.1))
    monkeypatch.setattr(slow_honest.Phone2G, "lose_touch", lose_touch)
    monkeypatch.setattr(slow_honest.Phone2G, "regain_touch", regain_touch)
    async with talking("phone-2g") as (play, room):
        await _join(room)
        await until(lambda: play.cohort.deliveries == 1)
        assert arrived == [0]
        assert not play.cohort.ended


@needs_darkness
async def test_the_tunnel_is_dark_and_behind_it_the_same_connection_or_it_finds_out_that_it_was_forgotten() -> None:
    async with _joined("tunnel") as (play, room):
        for number in range(1, 3):
            await until(lambda: play.client.is_dark)
            said = await room.hear()
            assert said["id"] == number
            await room.say(type="ack", id=number)
        assert play.cohort.opened == 1
        assert not play.cohort.ended
        await until(lambda: play.client.is_dark)
        assert isinstance(room.stream, trio.SocketStream)
        reset(room.stream)
        await until(lambda: play.cohort.ended == {"connection reset by peer": 1})


async def test_on_the_train_something_is_said_before_the_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_honest.Tunnel, "first_in_touch", (600.0, 600.0))
    async with _joined("tunnel") as (_, room):
        assert (await room.hear())["type"] == "publish"


@pytest.mark.parametrize(("per_address", "numbers"), [(200, [1, 5, 1]), (2, [1, 5, 3]), (1, [1, 5, 5])])
async def test_the_office_has_one_address_other_slow_clients_one_each_and_a_crowd_what_is_asked(
    per_address: int, numbers: list[int]
) -> None:
    addresses = {}
    for name in ("office", "tunnel", "idle"):
        async with listening() as server, playing(server.url, name, clients=5, per_address=per_address) as play:
            addresses[name] = {(await server.accept()).socket.getpeername()[0] for _ in play.clients}
    assert list(map(len, addresses.values())) == numbers
    assert len(set().union(*addresses.values())) == sum(numbers)
