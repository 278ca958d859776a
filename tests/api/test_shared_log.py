"""A log that other processes write to: their cursors, sanctions and sign-outs are understood here."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from chatserver.chat import follower, reloader
from chatserver.chat.principal import number_behind
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import SANCTIONS_CHANGED, TEXTS_CHANGED, Draft
from chatserver.log.sanctions import Penalty, Sanction
from chatserver.log.signouts import SignOut
from tests.api.asking import texts
from tests.support.chatting import ControlledLog
from tests.support.moderating import guest, id_of, moderate, moderated
from tests.support.peers import Address, ask, chatter, connect, publish, request
from tests.support.serving import Serving, eventually, serving

ANN = guest("ann")
ENTRY = AuditEntry(1, "u_mod", "Mod", "192.0.2.1", "ban", "lobby", "u_ann", "", minor=False)


@pytest.fixture
def log() -> ControlledLog:
    return ControlledLog(shared=True)


@pytest.fixture
async def server(log: ControlledLog, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(follower, "COMPARE_INTERVAL", 3600.0)  # no comparison makes up for a lost hint
    async with serving(engine=log) as running:
        yield running


async def two_here_and_two_elsewhere(address: Address, log: ControlledLog) -> None:
    """Two records of this process and two of another; the room in memory has only the former."""
    for text in ("one", "two"):
        await publish(address, "lobby", text)
    await ask(address, "GET", "/rooms/lobby/messages?wait=0.01")
    log.commit_elsewhere([Draft("lobby", "u_9", "Zoe", text) for text in ("three", "four")])


@pytest.mark.parametrize("path", ["/rooms/lobby/messages?after=4&wait=20", "/poll?room=lobby:4&wait=20"])
async def test_a_poll_waits_after_a_record_of_another_process(
    server: Serving, address: Address, log: ControlledLog, path: str
) -> None:
    await two_here_and_two_elsewhere(address, log)
    async with connect(address) as peer:
        await peer.send(request("GET", path))
        await server.in_phase("held")
        await publish(address, "lobby", "five")
        answer = (await peer.response()).json
        page = answer.get("rooms", {}).get("lobby", answer)
        assert (page["recovered"], texts(page)) == (True, ["five"])


async def test_a_poll_from_an_unwritten_offset_is_not_recovered(address: Address, log: ControlledLog) -> None:
    await two_here_and_two_elsewhere(address, log)
    page = (await ask(address, "GET", "/rooms/lobby/messages?after=5&wait=20")).json
    assert (page["recovered"], texts(page)) == (False, ["one", "two", "three", "four"])


@pytest.mark.parametrize(
    ("name", "at", "found"), [("after", 3, ["four"]), ("before", 5, ["one", "two", "three", "four"]), ("after", 4, [])]
)
async def test_history_at_a_cursor_of_another_process(
    address: Address, log: ControlledLog, name: str, at: int, found: list[str]
) -> None:
    await two_here_and_two_elsewhere(address, log)
    page = (await ask(address, "GET", f"/rooms/lobby/messages?{name}={at}")).json
    async with chatter(address) as friend:
        told = await friend.ask("history", room="lobby", **{name: at})
    assert [(each["recovered"], texts(each)) for each in (page, told)] == [(True, found)] * 2


async def test_a_join_and_a_stream_go_on_from_there(address: Address, log: ControlledLog) -> None:
    await two_here_and_two_elsewhere(address, log)
    async with chatter(address) as friend, connect(address) as peer:
        joined = await friend.ask("join", room="lobby", after=4)
        assert (joined["recovered"], texts(joined)) == (True, [])
        log.commit_elsewhere([Draft("lobby", "u_9", "Zoe", "five")])
        await peer.send(request("GET", "/rooms/lobby/events?after=5"))
        assert (await peer.head()).status == 200
        await publish(address, "lobby", "six")
        assert [(await friend.next("message"))["text"] for _ in range(2)] == ["five", "six"]
        text = await peer.until(b'"six"')
        assert b"event: gap" not in text
        assert b'"five"' not in text


async def test_a_read_marker_may_be_on_a_record_of_another_process(address: Address, log: ControlledLog) -> None:
    await two_here_and_two_elsewhere(address, log)
    async with chatter(address) as friend:
        assert (await friend.ask("read", room="lobby", offset=4))["offset"] == 4
        assert (await friend.ask("read", room="lobby", offset=9))["offset"] == 4


async def test_a_text_deleted_elsewhere_is_in_no_kept_result_here(server: Serving, address: Address) -> None:
    """The room need not be in memory here. Without a hint the cached result is given for three more seconds."""
    await publish(address, "lobby", "tea")
    for cached in (False, True):
        assert (await ask(address, "GET", "/search?q=tea")).json["cached"] == cached
        server.server._on_hints({"lobby": 1})  # of new messages
    server.server._on_hints({"lobby": 2, TEXTS_CHANGED: 0})
    assert not (await ask(address, "GET", "/search?q=tea")).json["cached"]


async def test_a_fault_in_a_receiver_of_hints_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(faults=1) as server:
        monkeypatch.setattr(
            server.server.parts.hub.follower, "on_hints", mock.Mock(side_effect=RuntimeError("planted"))
        )
        for cached in (False, True):
            assert (await ask(server.address, "GET", "/search?q=tea")).json["cached"] == cached
        server.server._on_hints({TEXTS_CHANGED: 0})
        assert not (await ask(server.address, "GET", "/search?q=tea")).json["cached"]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_room_in_memory_answers_without_the_log_up_to_its_end(
    monkeypatch: pytest.MonkeyPatch, *, shared: bool
) -> None:
    """Only a cursor beyond that may be of another process, if there are others: each read of the log is a task."""
    monkeypatch.setattr(follower, "COMPARE_INTERVAL", 3600.0)
    log = ControlledLog(shared=shared)
    async with serving(engine=log) as server, chatter(server.address) as friend:
        for text in ("one", "two"):
            await publish(server.address, "lobby", text)
        await friend.ask("join", room="lobby")
        log.reads = 0
        path = "/rooms/lobby/messages"
        for query in ("", "?after=0", "?after=2", "?before=2", "?wait=5", "?after=1&wait=5", "?after=0&kinds=message"):
            assert (await ask(server.address, "GET", f"{path}{query}")).status == 200
        assert (await ask(server.address, "GET", "/poll?room=lobby:2")).status == 200
        for command in ("history", "join"):
            assert (await friend.ask(command, room="lobby", after=2))["recovered"]
        assert log.reads == 0
        assert not (await ask(server.address, "GET", f"{path}?after=3")).json["recovered"]
        assert (log.reads > 0) is shared


# -- sanctions and sign-outs ------------------------------------------------------------------------------------------


def ban(user: str, **fields: Any) -> Sanction:
    return Sanction("lobby", Penalty.BAN, user, "", 0, "", "u_mod", "Mod", 1, **fields)


@pytest.mark.parametrize("hint", [True, False])
async def test_a_ban_from_elsewhere_is_enforced_and_lifted(
    address: Address, server: Serving, log: ControlledLog, monkeypatch: pytest.MonkeyPatch, hint: bool
) -> None:
    """The ban is enforced at once after a hint, and within some seconds without one."""
    if not hint:
        monkeypatch.setattr(reloader, "RELOAD_EVERY", 0.05)
        server.server._on_hints({SANCTIONS_CHANGED: 1})  # ends the pause after the last read
    ann = await id_of(address, ANN)
    async with chatter(address, headers=ANN) as friend:
        await friend.ask("join", room="lobby")
        kept = await log.sanctions.add(ban(ann), ENTRY)
        if hint:
            server.server._on_hints({SANCTIONS_CHANGED: 1})
        assert (await friend.next("error"))["code"] == "forbidden"
        await log.sanctions.lift(kept.id, ENTRY)
        if hint:
            server.server._on_hints({SANCTIONS_CHANGED: 1})
        moderation = server.server.parts.services.moderation
        await eventually(lambda: not moderation.in_force)
        assert (await friend.ask("join", room="lobby"))["type"] == "joined"


async def test_a_sanction_from_elsewhere_is_listed_and_lifted_before_it_is_known_here(
    tmp_path: Path, log: ControlledLog
) -> None:
    """A moderator whom another process had just answered was told 404, and the sanction stayed in force."""
    async with moderated(tmp_path, engine=log) as server:
        kept = await log.sanctions.add(ban("u_ann"), ENTRY)
        listed = await moderate(server.address, "GET", "/rooms/lobby/sanctions?user=u_ann")
        assert [each["id"] for each in listed.json["sanctions"]] == [kept.id]
        path = f"/rooms/lobby/sanctions/{kept.id}"
        assert [(await moderate(server.address, "DELETE", path)).status for _ in range(2)] == [200, 404]
        assert await log.sanctions.load(0) == []


async def test_a_sign_out_elsewhere_ends_connections_here(
    address: Address, server: Serving, log: ControlledLog
) -> None:
    ann = await id_of(address, ANN)
    number = number_behind(ann, log.identity.secret)
    now = int(time.time() * 1000)
    async with chatter(address, headers=ANN) as friend, chatter(address) as other:
        await log.signouts.add(SignOut(number, True, now + 1, now + 3_600_000))
        server.server._on_hints({"*signouts": 1})
        await friend.closed()
        assert (await other.ask("ping"))["type"] == "pong"
