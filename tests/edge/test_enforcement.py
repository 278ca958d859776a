"""The search for those whom a moderator bans or kicks: in small steps, whatever fails, also without a connection."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from chatserver import fair
from chatserver.api.dialect import ChatV1, Dialect
from chatserver.chat.moderation import Enforcement
from chatserver.chat.principal import Principal
from chatserver.edge import enforcement
from tests.support.moderating import (
    ELSEWHERE,
    guest,
    id_of,
    is_listed,
    moderate,
    moderated,
    poll_once,
    sanction,
    say,
    signed_in,
)
from tests.support.peers import Address, ask, chatter, connect, request
from tests.support.serving import Serving
from tests.support.steps import few_in_a_step

ANN, BOB = guest("ann"), guest("bob")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Serving]:
    few_in_a_step(monkeypatch)
    async with moderated(tmp_path, presence_grace=300.0) as running:
        yield running


@pytest.fixture
def address(server: Serving) -> Address:
    return server.address


async def test_a_fault_at_one_connection_does_not_save_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the whole search, and the banned user stayed in the room."""
    planted, concerns = count(), Enforcement.concerns

    def failing(enforcement: Enforcement, principal: Principal) -> bool:
        if next(planted) == 0:
            raise ZeroDivisionError("planted")
        return concerns(enforcement, principal)

    async with (
        moderated(tmp_path, faults=1) as server,
        chatter(server.address, headers=BOB) as first,
        chatter(server.address, headers=ANN) as friend,
    ):
        for each in (first, friend):
            await each.ask("join", room="lobby")
        ann = await id_of(server.address, ANN)
        monkeypatch.setattr(Enforcement, "concerns", failing)
        await sanction(server.address, kind="ban", user=ann)
        assert (await friend.next("error"))["code"] == "forbidden"
        assert (await first.closed()).code == 1011


@pytest.mark.parametrize("act", [{"kind": "mute"}, {"kind": "ban"}, {}])
async def test_the_connections_of_other_rooms_are_not_looked_at(
    server: Serving, monkeypatch: pytest.MonkeyPatch, act: dict[str, Any]
) -> None:
    """With 8,000 connections each kick took 9 ms of CPU, in whatever room and of whomever."""
    address = server.address
    asked = mock.Mock(return_value=False)
    monkeypatch.setattr(Enforcement, "concerns", asked)
    async with AsyncExitStack() as stack:
        for room in ("ops", "ops", "lobby"):
            page = await stack.enter_async_context(chatter(address, headers=BOB))
            await page.ask("join", room=room)
        for room in ("ops", "lobby"):
            stream = await stack.enter_async_context(connect(address))
            await stream.send(request("GET", f"/rooms/{room}/events", headers=BOB))
            await stream.head()
            poll = await stack.enter_async_context(connect(address))
            await poll.send(request("GET", f"/poll?room=empty&room={room}&wait=60", headers=BOB))
        await server.in_phase("held", 2)
        answer = await moderate(address, "POST", f"/rooms/lobby/{'sanctions' if act else 'kick'}", user="u_x", **act)
        assert answer.status in (200, 201)
    assert asked.call_count == 3, "a WebSocket, an event stream, a held poll"


async def test_of_many_connections_and_rooms_a_few_are_ended_in_each_step(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a ban of 200 WebSockets in a hundred rooms each takes steps of 7 ms."""
    address = server.address
    monkeypatch.setattr(fair, "perf_counter", count().__next__)  # each end takes longer than a step
    monkeypatch.setattr(enforcement, "ENDED_AT_ONCE", 1)
    rooms = [f"room-{number}" for number in range(12)]
    for room in rooms:
        assert (await say(address, BOB, room)).status == 201
    with mock.patch("chatserver.edge.enforcement.do_step", wraps=fair.do_step) as steps:
        async with AsyncExitStack() as stack:
            for _ in rooms:
                stream = await stack.enter_async_context(connect(address))
                await stream.send(request("GET", "/rooms/lobby/events", headers=ANN))
                await stream.head()
            await poll_once(address, ANN, *rooms[:6])
            page = await stack.enter_async_context(chatter(address, headers=ANN))
            for room in rooms[6:]:
                await page.ask("join", room=room)
            answer = await moderate(address, "POST", "/rooms/*/kick", user=await id_of(address, ANN))
            assert {(await page.next("error"))["room"] for _ in rooms[6:]} == set(rooms[6:])
    assert answer.json["ended"] == 24
    assert steps.call_count >= len(server.server.parts.connections.table) + len(rooms)


async def test_a_client_whose_dialect_has_no_notice_is_sent_none_and_leaves_all_its_rooms(
    server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed in those that were not ended in the first step."""
    monkeypatch.setattr(enforcement, "ENDED_AT_ONCE", 1)
    monkeypatch.setattr(ChatV1, "moderated", Dialect.moderated)
    async with chatter(server.address, headers=ANN) as page:
        for room in ("lobby", "ops"):
            await page.ask("join", room=room)
        ann = await id_of(server.address, ANN)
        await sanction(server.address, kind="mute", user=ann)
        assert (await page.ask("ping"))["type"] == "pong"
        answer = await moderate(server.address, "POST", "/rooms/*/kick", user=ann)
    assert answer.json["ended"] == 2


async def test_a_held_poll_ends_once_and_one_on_another_room_goes_on(server: Serving) -> None:
    """Its answer leaves its user present without a connection, which the search must not find as another one."""
    address = server.address
    async with connect(address) as peer, connect(address) as other:
        await peer.send(request("GET", "/poll?room=lobby&wait=60", headers=ANN))
        await other.send(request("GET", "/poll?room=ops&wait=60", headers=ANN))
        await server.in_phase("held", 2)
        answer = await moderate(address, "POST", "/rooms/lobby/kick", user=await id_of(address, ANN))
        assert answer.json["ended"] == 1
        assert (await peer.response()).status == 403
        assert (await say(address, BOB, "ops")).status == 201
        assert (await other.response()).status == 200


async def _lose(address: Address, who: dict[str, str], *rooms: str) -> object:
    """Make a user present in rooms without a connection, by a poll and by a lost WebSocket. Returns its id."""
    await poll_once(address, who, *rooms)
    async with chatter(address, headers=who, source=ELSEWHERE) as page:
        for room in rooms:
            await page.ask("join", room=room)
        user: object = page.hello["user"]
    return user


@pytest.mark.parametrize("room", ["lobby", "*"])
@pytest.mark.parametrize("how", ["kick", "ban a user", "ban a network"])
async def test_a_user_without_a_connection_leaves_the_list_at_once(address: Address, how: str, room: str) -> None:
    others = [guest(f"other-{number}") for number in range(7)]
    for each in others:
        assert (await ask(address, "GET", "/poll?room=lobby", headers=each)).status == 200
    user: Any = await _lose(address, ANN, "lobby", "ops")
    assert await is_listed(address, user, "lobby")
    whom = {"network": ELSEWHERE} if how == "ban a network" else {"user": user["id"]}
    if how == "kick":
        answer = await moderate(address, "POST", f"/rooms/{room}/kick", **whom)
        assert answer.json["ended"] == (1 if room == "lobby" else 2)
    else:
        await sanction(address, room, kind="ban", **whom)
    assert not await is_listed(address, user, "lobby")
    assert await is_listed(address, user, "ops") == (room == "lobby")
    members = await moderate(address, "GET", "/rooms/lobby/members")
    assert members.json["count"] == 7, "all other users stay"


async def test_a_muted_user_without_a_connection_stays_in_the_list(address: Address) -> None:
    user: Any = await _lose(address, ANN, "lobby")
    await sanction(address, kind="mute", user=user["id"])
    assert await is_listed(address, user, "lobby")


async def test_a_moderator_without_a_connection_stays_in_the_list_when_its_network_is_banned(address: Address) -> None:
    """A ban of a network spares the room's moderators."""
    users = [await _lose(address, who, "lobby") for who in (signed_in("u_bea", role="moderator"), ANN)]
    await sanction(address, kind="ban", network=ELSEWHERE)
    assert [await is_listed(address, user, "lobby") for user in users] == [True, False]


@pytest.mark.jumping_clock
async def test_members_are_told_that_a_user_without_a_connection_has_left(address: Address) -> None:
    async with chatter(address) as watcher:
        await watcher.ask("join", room="lobby")
        user: Any = await _lose(address, ANN, "lobby")
        while user not in (await watcher.next("presence"))["joined"]:
            pass
        await moderate(address, "POST", "/rooms/lobby/kick", user=user["id"])
        told = await watcher.next("presence")
        assert (told["left"], told["members"]) == ([user], 1)
