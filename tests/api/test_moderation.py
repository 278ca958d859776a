"""The requests of moderators, the rights for them, the audit trail, slow mode."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio

from chatserver.api import moderation as moderation_module
from chatserver.chat import audit as audit_module
from chatserver.chat.moderation import Enforcement
from chatserver.log import audit as log_audit_module
from chatserver.log import sanctions as sanctions_module
from chatserver.log.interface import LogBusy
from chatserver.log.memory import MemoryLog
from chatserver.settings.rooms import RoomPolicy
from tests.api.asking import TIME, hold_back
from tests.support.chatting import ControlledLog
from tests.support.moderating import (
    ELSEWHERE,
    MODERATOR,
    audit,
    guest,
    id_of,
    moderate,
    moderated,
    read,
    sanction,
    say,
    signed_in,
)
from tests.support.peers import Address, ask, chatter, connect
from tests.support.serving import Serving, eventually, until
from tests.support.steps import FEW, StepCounts, few_in_a_step

ANN, BOB = guest("ann"), guest("bob")
#: A moderator of one room, and of all rooms whose name is one letter.
OF_OPS = signed_in("u_bob", role="moderator", rooms={"ops": "rw", "?": "rw"})
OF_MOST_ROOMS = signed_in("u_bob", role="moderator", rooms={"[!ln]*": "rw"})
SECOND = signed_in("u_second", role="moderator")
LOBBY = "/rooms/lobby/sanctions"


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Serving]:
    monkeypatch.setattr(audit_module, "GROUP_INTERVAL", 0.01)
    async with moderated(tmp_path) as running:
        yield running


# -- rights and malformed requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "status"),
    [(ANN, 401), (signed_in("u_ann"), 403), (OF_OPS, 403), (OF_MOST_ROOMS, 403)],
    ids=["guest", "user", "moderator of another room", "moderator of all rooms but some"],
)
async def test_a_plain_user_is_refused_and_learns_nothing(who: dict[str, str], status: int, address: Address) -> None:
    made = await sanction(address, kind="mute", user="u_x")
    answers = [
        await moderate(address, method, path, who=who, **fields)
        for method, path, fields in (
            ("GET", LOBBY, {}),
            ("GET", "/rooms/nowhere/sanctions", {}),
            ("GET", "/rooms/*/sanctions?user=u_x", {}),
            ("POST", LOBBY, {"kind": "ban", "user": "u_y"}),
            ("POST", LOBBY, {"kind": "nonsense"}),
            ("DELETE", f"{LOBBY}/{made['id']}", {}),
            ("DELETE", f"{LOBBY}/999", {}),
            ("POST", "/rooms/lobby/kick", {"user": "u_x"}),
            ("GET", "/audit", {}),
        )
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(status, answers[0].body)}
    assert (await moderate(address, "GET", LOBBY)).json == {"sanctions": [made]}
    foreign = await ask(address, "GET", LOBBY, headers={"Origin": "https://elsewhere.example"})
    assert foreign.status == 403
    trail = await until(lambda: audit(address), lambda trail: len(trail) > audit_module.REFUSAL_BURST)
    if who is OF_OPS:
        assert (await moderate(address, "GET", "/rooms/ops/sanctions", who=who)).status == 200
    name = await id_of(address, who)
    refused = [entry for entry in trail if entry["action"] == "refused"]
    assert len(refused) == audit_module.REFUSAL_BURST, "refusals of one network are limited in the trail"
    assert [(entry["by"]["id"], entry["network"], entry["detail"]) for entry in refused[::3]] == [
        (name, "127.0.0.1", "list sanctions"), (name, "127.0.0.1", "sanction"),
    ]  # fmt: skip


async def test_malformed_sanctions_are_refused_by_field(address: Address) -> None:
    """The limits of each field: tests/protocol."""
    moderator = await id_of(address, MODERATOR)
    for fields, word in (
        ({"kind": "shun", "user": "u_x"}, "it is mute or ban"),
        ({"kind": "mute"}, "user, network, network_of: exactly one"),
        ({"kind": "mute", "user": "u_x", "network": "192.0.2.1"}, "user, network, network_of: exactly one"),
        ({"kind": "mute", "user": "u_x", "second": 60}, "second: unknown field"),
        ({"kind": "mute", "network_of": "u_x"}, "network_of: u_x is not in lobby now"),
        ({"kind": "mute", "network_of": ""}, "network_of:"),
        ({"kind": "ban", "user": "g_bob"}, "'g_bob' is no guest's id"),
        ({"kind": "mute", "user": moderator}, "that is yourself"),
        ({"kind": "ban", "network": "127.0.0.1"}, "that is the network that you come from"),
    ):
        answer = await moderate(address, "POST", LOBBY, **fields)
        assert (answer.status, answer.error) == (400, "bad_field"), fields
        assert word in answer.json["error"]["message"], (fields, answer.json)
    answer = await ask(address, "POST", LOBBY, b'{"kind":"mute","user":"u_x"}', headers=MODERATOR)
    assert answer.status == 415
    assert (await moderate(address, "POST", "/rooms/lobby/kick", user=moderator)).status == 400
    assert (await moderate(address, "POST", "/rooms/Lobby/sanctions", kind="mute", user="u_x")).error == "bad_room"
    assert (await moderate(address, "GET", "/rooms/*/members")).error == "bad_room", "`*` is for sanctions only"
    for number in ("0", "-1", "1e3", "9" * 5000, "x", "%C2%B2"):
        assert (await moderate(address, "DELETE", f"{LOBBY}/{number}")).status == 404
    assert (await audit(address)) == [], "the trail has no entry"


async def test_a_network_is_stored_in_the_form_in_which_it_is_counted(address: Address) -> None:
    for given in ("192.0.2.1", "2001:db8::1"):
        await sanction(address, kind="ban", network=given)
    listed = (await moderate(address, "GET", f"{LOBBY}?network=2001:db8::7")).json["sanctions"]
    assert [each["network"] for each in listed] == ["2001:db8::/64"]
    made = await sanction(address, kind="mute", user="u_x")
    assert (await moderate(address, "GET", f"{LOBBY}?user=u_x")).json["sanctions"] == [made]
    assert (await moderate(address, "GET", f"{LOBBY}?limit=2")).json["sanctions"] == [made, *listed]


async def test_the_network_that_a_user_is_connected_from_can_be_banned(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest without its cookie is a new guest, and moderators do not know addresses."""
    few_in_a_step(monkeypatch)
    ann = await id_of(address, ANN)
    nowhere = await moderate(address, "POST", "/rooms/*/sanctions", kind="ban", network_of=ann)
    assert (nowhere.status, "is not in any room now" in nowhere.json["error"]["message"]) == (400, True)
    async with (
        chatter(address, headers=ANN, source="127.0.0.9") as on_another_network,
        chatter(address, headers=ANN, source=ELSEWHERE) as friend,
    ):
        await on_another_network.ask("join", room="lobby")
        await friend.ask("join", room="lobby")
        elsewhere = await moderate(address, "POST", "/rooms/ops/sanctions", kind="ban", network_of=ann)
        assert (elsewhere.status, "is not in ops now" in elsewhere.json["error"]["message"]) == (400, True)
        made = await sanction(address, "*", kind="ban", network_of=ann)
        assert (made["network"], "user" in made) == (ELSEWHERE, False)
        assert (await friend.closed()).code == 4504
    assert await read(address, guest("newcomer"), source=ELSEWHERE) == 403
    async with chatter(address, headers=BOB) as neighbour_of_moderator:
        await neighbour_of_moderator.ask("join", room="lobby")
        answer = await moderate(address, "POST", LOBBY, kind="ban", network_of=await id_of(address, BOB))
        assert answer.status == 400
        assert answer.json["error"]["message"] == "network_of: that is the network that you come from"


async def test_a_moderator_cannot_lift_a_ban_of_itself(address: Address) -> None:
    second = await id_of(address, SECOND)
    made = await sanction(address, kind="ban", user=second)
    path = f"/rooms/*/sanctions/{made['id']}"
    refused = await moderate(address, "DELETE", path, who=SECOND)
    assert (refused.status, "another moderator" in refused.json["error"]["message"]) == (403, True)
    assert (await moderate(address, "GET", LOBBY, who=SECOND)).status == 403
    assert (await moderate(address, "POST", LOBBY, who=SECOND, kind="mute", user="u_x")).status == 403
    assert (await moderate(address, "GET", "/rooms/ops/sanctions", who=SECOND)).status == 200
    assert (await moderate(address, "DELETE", path)).status == 200


async def test_of_two_lifts_at_the_same_moment_one_finds_the_sanction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were answered 200 and logged."""
    log = MemoryLog()
    async with moderated(tmp_path, engine=log) as server, trio.open_nursery() as nursery:
        address, answers = server.address, list[int]()
        path = f"{LOBBY}/{(await sanction(address, kind='mute', user='u_x'))['id']}"
        may_lift = hold_back(monkeypatch, log.sanctions, "lift")

        async def lift(who: dict[str, str]) -> None:
            answers.append((await moderate(address, "DELETE", path, who=who)).status)

        for who in (MODERATOR, SECOND):
            nursery.start_soon(lift, who)
        await server.in_phase("serving", 2)
        may_lift.set()
        await eventually(lambda: len(answers) == 2)
        assert sorted(answers) == [200, 404]
        assert [(each["action"], each["target"]) for each in await audit(address)] == [
            ("mute", "u_x"),
            ("unmute", "u_x"),
        ]


@pytest.mark.parametrize(("what", "fields"), [("sanctions", {"kind": "ban"}), ("kick", {})])
async def test_the_answer_comes_when_open_connections_have_been_told(
    server: Serving, monkeypatch: pytest.MonkeyPatch, what: str, fields: dict[str, Any]
) -> None:
    begun: list[Enforcement] = []
    answers: list[int] = []
    monkeypatch.setattr(server.server.parts.services.moderation, "apply", begun.append)

    async def act() -> None:
        answer = await moderate(server.address, "POST", f"/rooms/lobby/{what}", user="u_x", **fields)
        answers.append(answer.status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(act)
        await eventually(lambda: len(begun) == 1)
        await ask(server.address, "GET", "/healthz")
        assert answers == []
        begun[0].over.set()
        await eventually(lambda: len(answers) == 1)


async def test_the_number_of_sanctions_is_limited(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanctions_module, "MAX_SANCTIONS", 1)
    await sanction(address, kind="mute", user="u_x")
    answer = await moderate(address, "POST", LOBBY, kind="mute", user="u_y")
    assert (answer.status, "lift one" in answer.json["error"]["message"]) == (400, True)
    await sanction(address, kind="mute", user="u_x", seconds=60)


async def test_a_moderator_of_some_rooms_leaves_room_for_sanctions_of_others(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One filled the whole table with mutes of nobody in its room, and then no network could be banned anywhere."""
    monkeypatch.setattr(sanctions_module, "MAX_SANCTIONS", 4)
    monkeypatch.setattr(sanctions_module, "MAX_BY_ONE", 2, raising=False)
    answers = [
        await moderate(address, "POST", f"/rooms/{room}/sanctions", who=OF_OPS, kind="mute", user="u_nobody")
        for room in ("ops", "a", "b", "a")
    ]
    assert [answer.status for answer in answers] == [201, 201, 400, 201], "the last one replaces another"
    assert "2 sanctions in single rooms are yours" in answers[2].json["error"]["message"]
    for room, user in (("*", "u_x"), ("ops", "u_y")):
        await sanction(address, room, kind="ban", user=user)


# -- audit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "shown"), [("/rooms/*/sanctions", "_shown"), ("/audit", "_entry_shown")])
async def test_a_long_list_is_encoded_in_steps(
    path: str, shown: str, server: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one step, a thousand sanctions or entries would take 4 to 12 ms."""
    for number in range(7):
        await sanction(server.address, kind="mute", user=f"u_{number}")
    few_in_a_step(monkeypatch)
    with StepCounts() as steps:
        monkeypatch.setattr(moderation_module, shown, steps.counted(getattr(moderation_module, shown)))
        answer = await moderate(server.address, "GET", f"{path}?limit=5")
    assert [len(each) for each in answer.json.values() if isinstance(each, list)] == [5]
    assert (max(steps.counts), sum(steps.counts)) == (FEW, 5)


async def test_the_trail_has_each_action_and_goes_on_after_an_id(server: Serving) -> None:
    address = server.address
    await sanction(address, kind="mute", user="u_x", seconds=2_592_000, reason="spam")
    made = await sanction(address, "*", kind="ban", network="192.0.2.1")
    await moderate(address, "DELETE", f"/rooms/*/sanctions/{made['id']}")
    answer = await moderate(address, "GET", "/audit?limit=2")
    assert answer.json["last"] == 3
    assert [(each["id"], each["action"], each["room"], each["target"]) for each in answer.json["entries"]] == [
        (2, "ban", "*", "192.0.2.1"), (3, "unban", "*", "192.0.2.1"),
    ]  # fmt: skip
    (first,) = await audit(address, "?after=0&limit=1")
    assert (first["detail"], TIME.fullmatch(first["time"]) is not None) == ("2592000 s: spam", True)
    assert await audit(address, "?after=3") == []
    assert (await moderate(address, "GET", "/audit?after=3")).json["last"] == 3
    for text in ("x", "k3f9-1", "", "-1", "1.0", "%C2%B2", "9" * 17):
        assert (await moderate(address, "GET", f"/audit?after={text}")).error == "bad_field"
    lines = [line for line in server.logs if line["event"] in ("mute", "ban", "unban")]
    assert [(line["event"], line["target"], line["peer"]) for line in lines] == [
        ("mute", "u_x", "127.0.0.1"), ("ban", "192.0.2.1", "127.0.0.1"), ("unban", "192.0.2.1", "127.0.0.1"),
    ]  # fmt: skip


async def test_a_moderator_who_does_very_much_displaces_no_entry_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With kicks of nobody a moderator of one room pushed all entries out of the trail, within five minutes."""
    monkeypatch.setattr(audit_module, "ACTION_BURST", 2, raising=False)
    for name, value in (("MAX_ENTRIES", 4), ("MAX_MINOR_ENTRIES", 1), ("TRIM_EVERY", 1)):
        monkeypatch.setattr(log_audit_module, name, value)
    async with moderated(tmp_path) as server:
        address = server.address
        await sanction(address, kind="ban", user="u_x")
        for number in range(4):
            answer = await moderate(address, "POST", "/rooms/ops/kick", who=OF_OPS, user="u_nobody")
            assert answer.status == 200
            fields: dict[str, Any] = {"kind": "mute", "user": "u_nobody", "seconds": number + 1}
            assert (await moderate(address, "POST", "/rooms/ops/sanctions", who=OF_OPS, **fields)).status == 201
        await sanction(address, kind="ban", user="u_y")
        trail = [(each["by"]["id"], each["action"]) for each in await audit(address)]
    assert trail == [("u_mod", "ban"), ("u_bob", "kick"), ("u_bob", "mute"), ("u_bob", "mute"), ("u_mod", "ban")]


async def test_a_deletion_is_in_the_trail_unless_the_author_deletes(address: Address) -> None:
    for who in (ANN, BOB, BOB):
        assert (await say(address, who)).status == 201
    assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1", who=BOB)).status == 403
    assert (await moderate(address, "DELETE", "/rooms/lobby/messages/2", who=BOB)).status == 200
    assert (await moderate(address, "PATCH", "/rooms/lobby/messages/1", text="x")).status == 403, "no editing"
    assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1")).status == 200
    assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1")).status == 410
    async with chatter(address, headers=MODERATOR) as moderator:
        assert (await moderator.ask("delete", room="lobby", offset=3))["type"] == "ack"
    trail = await until(lambda: audit(address), lambda trail: len(trail) >= 2)
    assert [(each["action"], each["by"]["id"], each["room"], each["target"]) for each in trail] == [
        ("delete", "u_mod", "lobby", "1"), ("delete", "u_mod", "lobby", "3"),
    ]  # fmt: skip


async def test_a_deletion_whose_outcome_is_unknown_is_in_the_trail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moderator gets a 503, and the disk may delete the message all the same. One that is never begun is not."""
    monkeypatch.setattr(audit_module, "GROUP_INTERVAL", 0.01)
    log = ControlledLog()
    async with moderated(tmp_path, engine=log) as server:
        address = server.address
        assert (await say(address, ANN)).status == 201
        log.failing_commits = 1
        assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1")).status == 503
        with mock.patch.object(log, "submit", side_effect=LogBusy("too many wait")):
            assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1")).status == 503
        assert (await moderate(address, "DELETE", "/rooms/lobby/messages/1")).status == 200
        trail = await until(lambda: audit(address), lambda trail: len(trail) >= 2)
    assert [(each["action"], each["target"], each["detail"]) for each in trail] == [
        ("delete", "1", "not confirmed: it may not be deleted"), ("delete", "1", ""),
    ]  # fmt: skip


# -- slow mode --------------------------------------------------------------------------------------------------------


async def test_slow_mode_limits_the_messages_of_a_user(tmp_path: Path) -> None:
    async with moderated(tmp_path, rooms=(("lobby", RoomPolicy(slow_mode=600)),)) as server:
        address = server.address
        assert [(await say(address, ANN)).status for _ in range(2)] == [201, 429]
        refused = await say(address, ANN)
        assert (refused.error, 0 < int(refused.headers["retry-after"]) <= 600) == ("rate_limited", True)
        async with chatter(address, headers=ANN) as friend:
            answer = await friend.ask("publish", room="lobby", text="hi")
            assert (answer["code"], 0 < answer["retry_after"] <= 600) == ("rate_limited", True)
            assert (await friend.ask("react", room="lobby", offset=1, emoji="👍", on=True))["type"] == "ack"
        assert [(await say(address, ANN, "ops")).status for _ in range(2)] == [201] * 2
        assert [(await say(address, MODERATOR)).status for _ in range(3)] == [201] * 3


async def test_a_refused_change_does_not_end_the_pause_of_slow_mode(tmp_path: Path) -> None:
    """After a reaction to a message that does not exist, the next message was accepted at once."""
    changes: dict[str, dict[str, object]] = {"edit": {"text": "x"}, "delete": {}, "react": {"emoji": "👍", "on": True}}
    async with moderated(tmp_path, rooms=(("lobby", RoomPolicy(slow_mode=600)),)) as server:
        assert (await say(server.address, ANN)).status == 201
        async with chatter(server.address, headers=ANN) as friend:
            for kind, fields in changes.items():
                assert (await friend.ask(kind, room="lobby", offset=9, **fields))["code"] == "not_found"
                assert (await say(server.address, ANN)).status == 429, kind


async def test_a_retry_and_a_bad_message_are_no_messages_for_slow_mode(tmp_path: Path) -> None:
    """A retry after a lost answer was refused for the whole pause, and a blank text took the place of the next one.

    A retry for which the log had no place ended the pause, though the message had been stored.
    """
    async with moderated(tmp_path, rooms=(("lobby", RoomPolicy(slow_mode=600)),)) as server:
        path, message = "/rooms/lobby/messages", {"text": "once", "key": "k1"}
        async with connect(server.address) as peer, chatter(server.address, headers=ANN) as friend:
            assert (await peer.request("POST", path, {"text": " "}, headers=ANN)).status == 400
            stored = await peer.request("POST", path, message, headers=ANN)
            assert (await peer.request("POST", path, message, headers=ANN)).json == stored.json
            assert (await friend.ask("publish", room="lobby", **message))["cursor"] == stored.json["cursor"]
            with mock.patch.object(server.server.parts.log, "submit", side_effect=LogBusy("too many wait")):
                assert (await peer.request("POST", path, message, headers=ANN)).status == 503
            assert (await friend.ask("publish", room="lobby", text="x", key="k2"))["code"] == "rate_limited"
            assert (await peer.request("POST", path, {"text": "x", "key": "k3"}, headers=ANN)).status == 429


async def test_a_message_that_is_not_stored_does_not_count_for_slow_mode(tmp_path: Path) -> None:
    """A reply to nowhere was answered 404, and its author had to wait for the whole pause."""
    async with moderated(tmp_path, rooms=(("lobby", RoomPolicy(slow_mode=600)),)) as server:
        path, lost = "/rooms/lobby/messages", {"text": "hi", "reply_to": 9}
        async with connect(server.address) as peer, chatter(server.address, headers=ANN) as friend:
            assert (await peer.request("POST", path, {**lost, "key": "k1"}, headers=ANN)).status == 404
            assert (await friend.ask("publish", room="lobby", **lost))["code"] == "not_found"
            with mock.patch.object(server.server.parts.log, "submit", side_effect=LogBusy("too many wait")):
                assert (await peer.request("POST", path, {"text": "hi"}, headers=ANN)).status == 503
            assert [(await say(server.address, ANN)).status for _ in range(2)] == [201, 429]
