"""The effects of mutes, bans and kicks on users, on every transport."""

import json
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.api import polls
from chatserver.chat import audit as audit_module
from chatserver.edge.http import HttpExchanges
from chatserver.log.audit import AuditEntry
from chatserver.log.interface import LogUnavailable
from chatserver.log.memory import MemoryLog
from chatserver.log.sanctions import Penalty, Sanction
from chatserver.log.sqlite_writer import SqliteWriter
from tests.api.asking import TIME, hold_back
from tests.support.moderating import (
    ELSEWHERE,
    MODERATOR,
    audit,
    guest,
    id_of,
    is_listed,
    moderate,
    moderated,
    poll_once,
    read,
    sanction,
    say,
    signed_in,
)
from tests.support.peers import Address, Answer, ask, chatter, connect, publish, request, upgrade
from tests.support.serving import Serving, eventually, neighbour, until
from tests.support.steps import few_in_a_step

ANN, BOB = guest("ann"), guest("bob")
LOBBY = "/rooms/lobby/sanctions"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Serving]:
    few_in_a_step(monkeypatch)
    async with moderated(tmp_path, presence_grace=300.0) as running:
        yield running


# -- mutes ------------------------------------------------------------------------------------------------------------


async def test_a_muted_user_may_read_and_not_write_on_any_transport(address: Address) -> None:
    ann = await id_of(address, ANN)
    async with chatter(address, headers=ANN) as friend:
        name = friend.hello["user"]["name"]
        await friend.ask("join", room="lobby")
        made = await sanction(address, kind="mute", user=ann, seconds=600, reason="spam")
        refused = await friend.ask("publish", room="lobby", text="hi")
        assert (refused["type"], refused["code"], "room" in refused) == ("error", "forbidden", False)
        assert refused["message"].startswith("you may not write in lobby for another ")
        assert 0 < refused["retry_after"] <= 600
        assert (await friend.ask("publish", room="ops", text="hi"))["type"] == "ack"
        assert (await friend.ask("history", room="lobby"))["type"] == "history"
        assert (await say(address, BOB)).status == 201
        assert (await friend.next("message"))["text"] == "hi", "it is still a member and gets messages"
    answer = await say(address, ANN)
    assert (answer.status, answer.error) == (403, "forbidden")
    assert 0 < int(answer.headers["retry-after"]) <= 600
    assert await read(address, ANN) == 200
    assert {**made, "time": "", "until": ""} == {
        "id": 1, "room": "lobby", "kind": "mute", "user": ann, "user_name": name, "until": "", "reason": "spam",
        "by": made["by"], "time": "",
    }  # fmt: skip
    assert TIME.fullmatch(made["until"])
    assert made["by"]["id"] == await id_of(address, MODERATOR)


@pytest.mark.parametrize("room", ["lobby", "*"])
async def test_a_muted_user_is_told_at_once_and_stays_in_the_room(server: Serving, room: str) -> None:
    """The user learned it only by writing."""
    address = server.address
    ann = await id_of(address, ANN)
    answers: list[Answer] = []
    async with (
        chatter(address, headers=ANN) as friend, chatter(address, headers=ANN) as elsewhere,
        connect(address) as events, trio.open_nursery() as nursery,
    ):  # fmt: skip
        await friend.ask("join", room="lobby")
        await elsewhere.ask("join", room="ops")
        await events.send(request("GET", "/rooms/lobby/events", headers=ANN))
        await events.head()
        nursery.start_soon(poll, address, "/rooms/lobby/messages?after=0&wait=60", ANN, answers)
        await server.in_phase("held", 1)
        await sanction(address, room, kind="mute", user=ann, seconds=600, reason="spam")
        told = await friend.next("error")
        assert set(told) == {"type", "code", "message", "retry_after"}, "a `room` would mean that the user is out of it"
        where = "in lobby" if room == "lobby" else "here"
        message = f"you may not write {where} for another 10 minutes: spam"
        assert (told["code"], told["message"]) == ("forbidden", message)
        await events.until(b"event: muted\ndata: ")
        assert json.loads(await events.until(b"\n")) == told
        await elsewhere.say(type="ping")
        assert (await elsewhere.next("error", "pong"))["type"] == ("pong" if room == "lobby" else "error")
        assert (await say(address, BOB)).status == 201
        assert (await friend.next("message"))["text"] == "hi"
    assert [(answer.status, len(answer.json["messages"])) for answer in answers] == [(200, 1)]


async def test_a_sanction_ends_when_it_is_lifted_or_over(server: Serving) -> None:
    address = server.address
    ann = await id_of(address, ANN)
    made = await sanction(address, "*", kind="mute", user=ann)
    assert made["until"] is None
    answer = await say(address, ANN)
    assert (answer.status, "retry-after" in answer.headers) == (403, False)
    assert (await moderate(address, "DELETE", f"{LOBBY}/{made['id']}")).status == 404, "not of the lobby"
    lifted = await moderate(address, "DELETE", f"/rooms/*/sanctions/{made['id']}")
    assert (lifted.status, lifted.json) == (200, made)
    assert (await moderate(address, "DELETE", f"/rooms/*/sanctions/{made['id']}")).status == 404
    assert (await say(address, ANN)).status == 201
    await sanction(address, kind="mute", user=ann, seconds=1)
    moderation = server.server.parts.services.moderation
    now = moderation.wall_ms
    moderation.wall_ms = lambda: now() + 1_000
    assert (await say(address, ANN)).status == 201
    assert (await moderate(address, "GET", LOBBY)).json == {"sanctions": []}


# -- bans -------------------------------------------------------------------------------------------------------------


def last_event(rest: bytes, *, room: str, message: str) -> None:
    """An event stream ends with an event that has the reason; its name is not `error`, which browsers use."""
    *_, name, data, end, nothing = rest.decode().split("\n")
    assert (name, end, nothing) == ("event: expelled", "", "")
    told = json.loads(data.removeprefix("data: "))
    assert (told["type"], told["room"], told["code"], told["message"]) == ("error", room, "forbidden", message)


async def poll(address: Address, path: str, who: dict[str, str], answers: list[Answer], source: str = "") -> None:
    answers.append(await ask(address, "GET", path, headers=who, source=source))


async def _all_transports(
    server: Serving, who: dict[str, str], room: str, ban: dict[str, Any], *, where: str
) -> tuple[Any, list[Answer], bytes]:
    """What a WebSocket in two rooms, an event stream and two polls receive when a moderator bans or kicks."""
    address = server.address
    for each in ("lobby", "ops"):
        assert (await say(address, BOB, each)).status == 201
    answers: list[Answer] = []
    async with (
        chatter(address, headers=who, source=ELSEWHERE) as friend, connect(address, source=ELSEWHERE) as events,
        neighbour(server), trio.open_nursery() as nursery,
    ):  # fmt: skip
        for each in ("lobby", "ops"):
            await friend.ask("join", room=each)
        await events.send(request("GET", "/rooms/lobby/events", headers=who))
        await events.head()
        for path in ("/rooms/lobby/messages?after=1&wait=60", "/poll?room=ops:1&room=lobby:1&wait=60"):
            nursery.start_soon(poll, address, path, who, answers, ELSEWHERE)
        await server.in_phase("held", 2)
        answer = await moderate(address, "POST", f"/rooms/{room}/{where}", **ban)
        assert answer.status in (200, 201), answer
        assert answer.json.get("ended", 4) == 4, "a WebSocket, an event stream and two polls"
        gone_from = ["lobby", "ops"] if room == "*" else [room]
        assert [await is_listed(address, friend.hello["user"], each) for each in gone_from] == [False] * len(gone_from)
        told = await friend.next("error")
        if room == "*" and where == "sanctions":
            closed = await friend.closed()
            assert (closed.code, closed.reason) == (4504, told["message"])
        else:
            assert (await friend.ask("ping"))["type"] == "pong", "the connection goes on"
            assert (await friend.ask("leave", room="lobby"))["code"] == "not_joined"
            assert (await friend.ask("leave", room="ops"))["type"] == "left"
            if where == "sanctions":
                for command in ("join", "history", "members"):
                    assert (await friend.ask(command, room="lobby"))["code"] == "forbidden"
            else:
                assert (await friend.ask("join", room="lobby"))["type"] == "joined"
        rest = await events.rest()
    return told, answers, rest


@pytest.mark.parametrize("room", ["lobby", "*"])
@pytest.mark.parametrize("by_network", [False, True])
async def test_a_ban_expels_a_user_on_all_transports_at_once(server: Serving, room: str, *, by_network: bool) -> None:
    address = server.address
    whom = {"network": ELSEWHERE} if by_network else {"user": await id_of(address, ANN)}
    ban = {"kind": "ban", "seconds": 600, "reason": "spam", **whom}
    told, answers, rest = await _all_transports(server, ANN, room, ban, where="sanctions")
    assert {**told, "message": "", "retry_after": 0} == {
        "type": "error", "room": "lobby" if room == "lobby" else told["room"], "code": "forbidden", "message": "",
        "retry_after": 0,
    }  # fmt: skip
    assert told["message"].endswith(": spam")
    assert 0 < told["retry_after"] <= 600
    assert [(answer.status, answer.error) for answer in answers] == [(403, "forbidden")] * 2
    assert all("retry-after" in answer.headers for answer in answers)
    assert [answer.json["error"]["room"] for answer in answers] == [room] * 2
    assert await server.metric("chatserver_sanctions") == 1
    assert await server.metric("chatserver_sanctioned_total", kind="mute") == 0
    last_event(rest, room="lobby", message=told["message"])
    await server.counted("banned", 2 if room == "*" else 1)
    # All requests of this user are refused, and no others.
    everywhere = 403 if room == "*" else 200
    in_lobby = ("/rooms/lobby/messages", "/rooms/lobby/events", "/poll?room=ops:0&room=lobby:0")
    for path in (*in_lobby, "/rooms/ops/messages", "/search?q=hi", "/rooms"):
        answer = await ask(address, "GET", path, headers=ANN, source=ELSEWHERE)
        assert answer.status == (403 if path in in_lobby else everywhere), path
    assert (await say(address, ANN, source=ELSEWHERE)).status == 403
    listed = [] if room == "*" else [each["room"] for each in answer.json["rooms"]]
    assert "lobby" not in listed, "its counts are not for users who are banned there"
    assert "lobby" in [each["room"] for each in (await ask(address, "GET", "/rooms")).json["rooms"]]
    async with connect(address, source=ELSEWHERE) as peer:
        await peer.send(upgrade(headers=ANN))
        assert (await peer.head()).status == (403 if room == "*" else 101)
    assert await server.metric("chatserver_sanctioned_total", kind="ban") >= 4
    assert await read(address, BOB) == 200
    foreign = {"Origin": "https://elsewhere.example"}
    assert await read(address, foreign, source=ELSEWHERE) == (403 if by_network else 200), "without a token"


async def test_a_ban_of_a_network_from_all_rooms_leaves_a_moderator_the_room_that_it_moderates(server: Serving) -> None:
    """Its WebSockets were closed and refused, while the same user could go on over HTTP."""
    address = server.address
    keeper = signed_in("u_keeper", role="moderator", rooms={"lobby": "rw", "ops": "r"})
    for room in ("lobby", "ops"):
        await publish(address, room, "hi")
    answers: list[Answer] = []
    async with chatter(address, headers=keeper, source=ELSEWHERE) as friend, trio.open_nursery() as nursery:
        for room in ("lobby", "ops"):
            await friend.ask("join", room=room)
        for path in ("/poll?room=lobby:1&room=ops:1&wait=60", "/rooms/lobby/messages?after=1&wait=60"):
            nursery.start_soon(poll, address, path, keeper, answers, ELSEWHERE)
        await server.in_phase("held", 2)
        await sanction(address, "*", kind="ban", network=ELSEWHERE)
        assert (await friend.next("error"))["room"] == "ops"
        assert (await friend.ask("publish", room="lobby", text="hi"))["type"] == "ack"
        assert (await friend.ask("join", room="ops"))["code"] == "forbidden"
    async with chatter(address, headers=keeper, source=ELSEWHERE) as friend:
        assert (await friend.ask("join", room="lobby"))["type"] == "joined"
        user = friend.hello["user"]
        assert [await is_listed(address, user, room) for room in ("lobby", "ops")] == [True, False]
    answered, refused = sorted(answers, key=lambda answer: answer.status)
    assert (refused.status, refused.json["error"]["room"]) == (403, "ops")
    assert [each["text"] for each in answered.json["messages"]] == ["hi"]
    assert [await read(address, keeper, room, source=ELSEWHERE) for room in ("lobby", "ops")] == [200, 403]
    listed = await ask(address, "GET", "/rooms", headers=keeper, source=ELSEWHERE)
    assert [each["room"] for each in listed.json["rooms"]] == ["lobby"]


async def test_a_kick_from_all_rooms_leaves_websockets_open_and_a_ban_closes_those_of_any_dialect(
    tmp_path: Path,
) -> None:
    async with (
        moderated(tmp_path, echo=True) as server, chatter(server.address, path="/echo", headers=ANN) as echo,
        chatter(server.address, headers=ANN) as friend, chatter(server.address) as other,
    ):  # fmt: skip
        ann = await id_of(server.address, ANN)
        await friend.ask("join", room="lobby")
        assert (await moderate(server.address, "POST", "/rooms/*/kick", user=ann)).json["ended"] == 1
        assert (await friend.next("error"))["room"] == "lobby"
        assert (await say(server.address, BOB)).status == 201
        await friend.say(type="ping")
        assert (await friend.next("message", "pong"))["type"] == "pong", "it is out of the room"
        await sanction(server.address, "*", kind="ban", user=ann)
        assert (await echo.closed()).code == (await friend.closed()).code == 4504
        assert (await other.ask("ping"))["type"] == "pong"


async def test_auth_applies_the_sanctions_of_the_new_user(address: Address) -> None:
    ann, bob = await id_of(address, ANN), await id_of(address, BOB)
    token = ANN["Cookie"].partition("=")[2]
    await sanction(address, kind="ban", user=ann)
    async with chatter(address, headers=BOB) as friend:
        for room in ("lobby", "ops"):
            await friend.ask("join", room=room)
        assert (await friend.ask("auth", token=token))["user"]["id"] == ann
        assert (await friend.next("left"))["room"] == "lobby"
        assert (await friend.ask("join", room="lobby"))["code"] == "forbidden"
        await sanction(address, "*", kind="ban", user=bob)
        refused = await friend.ask("auth", token=BOB["Cookie"].partition("=")[2])
        assert (refused["type"], refused["code"]) == ("error", "forbidden")
        assert (await friend.ask("publish", room="ops", text="hi"))["type"] == "ack", "the user has not changed"


async def test_a_ban_survives_a_restart(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'chat.db'}"
    async with moderated(tmp_path, log=log) as server:
        ann = await id_of(server.address, ANN)
        made = await sanction(server.address, kind="ban", user=ann)
        await sanction(server.address, kind="mute", user="u_bob")
    async with moderated(tmp_path, log=log) as server:
        assert await read(server.address, ANN) == 403
        assert (await say(server.address, signed_in("u_bob"))).status == 403
        assert (await moderate(server.address, "GET", LOBBY)).json["sanctions"][1:] == [made]
        assert [entry["action"] for entry in await audit(server.address)] == ["ban", "mute"]


@pytest.mark.parametrize("what", ["ban", "lift", "sign out"])
async def test_a_sanction_stored_after_its_answer_is_enforced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A sanction that is answered 503 behind a slow disk and then stored must not wait for a restart."""
    may_store, change = threading.Event(), SqliteWriter.change

    def slowly(writer: SqliteWriter, *arguments: Any) -> Any:
        assert may_store.wait(10)
        return change(writer, *arguments)

    async with moderated(tmp_path, log=f"sqlite:{tmp_path / 'chat.db'}") as server:
        address = server.address
        bob = await id_of(address, BOB)
        made = await sanction(address, kind="ban", user=await id_of(address, ANN))
        monkeypatch.setattr(SqliteWriter, "change", slowly)
        monkeypatch.setattr("chatserver.log.database.ANSWER_DEADLINE", 0.1)
        async with chatter(address, headers=BOB) as friend:
            await friend.ask("join", room="lobby")
            if what == "ban":
                late = await moderate(address, "POST", LOBBY, kind="ban", user=bob)
            elif what == "lift":
                late = await moderate(address, "DELETE", f"{LOBBY}/{made['id']}")
            else:
                late = await ask(address, "DELETE", "/session", headers=BOB)
            assert late.status == 503
            may_store.set()
            if what == "ban":
                assert (await friend.next("error"))["code"] == "forbidden"
            elif what == "lift":
                await eventually(lambda: not server.server.parts.services.moderation.in_force)
            else:
                assert (await friend.closed()).code == 4503
        server.logs.clear()  # the expected lines of the log itself


# -- kicks ------------------------------------------------------------------------------------------------------------


async def test_a_kick_ends_the_memberships_of_a_user_who_may_return(server: Serving) -> None:
    ann = await id_of(server.address, ANN)
    told, answers, rest = await _all_transports(server, ANN, "lobby", {"user": ann, "reason": "noise"}, where="kick")
    assert told == {
        "type": "error", "room": "lobby", "code": "forbidden",
        "message": "a moderator has taken you out of this room: noise; you may come back",
    }  # fmt: skip
    error = {"code": "forbidden", "message": told["message"], "room": "lobby"}
    assert [(answer.status, answer.json) for answer in answers] == [(403, {"error": error})] * 2
    last_event(rest, room="lobby", message=told["message"])
    await server.counted("kicked")
    (entry,) = await audit(server.address)
    assert (entry["action"], entry["room"], entry["target"], entry["detail"]) == ("kick", "lobby", ann, "noise")
    assert [line["target"] for line in server.logs if line["event"] == "kick"] == [ann]
    for ended in (1, 0):  # first it is present after a lost connection, then not
        answer = await moderate(server.address, "POST", "/rooms/lobby/kick", user=ann)
        assert answer.json == {"room": "lobby", "user": ann, "ended": ended}
    async with connect(server.address) as events:
        await events.send(request("GET", "/rooms/lobby/events", headers=ANN))
        await events.head()
        answer = await moderate(server.address, "POST", "/rooms/lobby/kick", user=ann)
        assert answer.json["ended"] == 1, "and not its lease as well"


async def test_a_kick_does_not_wait_for_a_disk_that_fails(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user stayed, though the trail told of the kick; later the user was gone, and the trail might not tell."""
    monkeypatch.setattr(audit_module, "GROUP_INTERVAL", 0.01)
    trail = server.server.parts.log.audit
    add, failures = trail.add, [False, True]  # of first attempts: whether the entry is stored all the same

    async def fails(entries: Sequence[AuditEntry], *, again: bool = False) -> None:
        is_stored = None if again or not failures else failures.pop()
        if is_stored is not False:
            await add(entries, again=again)
        if is_stored is not None:
            raise LogUnavailable("the disk did not answer in time")

    monkeypatch.setattr(trail, "add", fails)
    async with chatter(server.address, headers=ANN) as ann:
        user = ann.hello["user"]["id"]
        with capture_logs() as lines:
            for kicks in (["1"], ["1", "2"]):
                await ann.ask("join", room="lobby")
                answer = await moderate(server.address, "POST", "/rooms/lobby/kick", user=user, reason=kicks[-1])
                assert (answer.status, answer.json["ended"]) == (200, 1)
                assert (await ann.next("error"))["room"] == "lobby"
                entries = await until(lambda: audit(server.address), lambda found: len(found) >= len(kicks))  # noqa: B023
                assert [entry["detail"] for entry in entries] == kicks
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["audit_failed"] * 2


async def test_a_command_that_waits_during_a_ban_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for requests: tests/api/test_sign_out.py."""
    log = MemoryLog()
    async with moderated(tmp_path, engine=log) as server, AsyncExitStack() as stack:
        address = server.address
        for number in range(60):  # more than a load brings into memory
            await publish(address, "lobby", str(number))
        ann = await id_of(address, ANN)
        commands = ("join", "history")
        talkers = [await stack.enter_async_context(chatter(address, headers=ANN)) for _ in commands]
        may_tell = hold_back(monkeypatch, log, "head", "read", "newest")
        for talker, command in zip(talkers, commands, strict=True):
            await talker.say(type=command, id=7, room="lobby")
        await server.in_phase("replying", len(commands))
        await sanction(address, kind="ban", user=ann)
        may_tell.set()
        for talker in talkers:
            refused = await talker.next("error")
            assert (refused["id"], refused["code"]) == (7, "forbidden")
    room = server.server.parts.hub.rooms["lobby"]
    assert (list(room.members), room.presence.people()) == ([], [])


@pytest.mark.parametrize(("room", "step"), [("lobby", 1), ("lobby", 2), ("lobby:1", 2)])
async def test_a_poll_between_its_steps_during_a_ban_is_refused(
    server: Serving, room: str, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered at once, or after it was held."""
    monkeypatch.setattr(polls, "ENTERED_PER_STEP", 1)
    await publish(server.address, "lobby", "hi")
    await poll_once(server.address, BOB, "lobby", "ops")  # now they are in memory
    ann = await id_of(server.address, ANN)
    resumed, steps = HttpExchanges.resumed, count(1)

    def banned_first(*arguments: Any) -> None:
        if next(steps) == step:
            sanction = Sanction("lobby", Penalty.BAN, ann, "", 0, "", "u_mod", "Mod", 0, id=1)
            server.server.parts.services.moderation.enforce(sanction)
        resumed(*arguments)

    monkeypatch.setattr(HttpExchanges, "resumed", banned_first)
    async with connect(server.address) as peer:
        await peer.send(request("GET", f"/poll?room={room}&room=ops:0&wait=60", headers=ANN))
        if ":" in room:  # looked at without /metrics, which is written in steps too
            await eventually(lambda: server.server.parts.hub.statistics()["waiters"] > 0)
            await publish(server.address, "ops", "news")
        assert ((await peer.response()).status, next(steps)) == (403, step + 1)
