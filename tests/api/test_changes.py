"""Edits, deletions and reactions over every transport."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.asking import event, open_stream
from tests.support.peers import Answer, Chatter, Peer, ask, chatter, connect, publish, request
from tests.support.serving import Serving, serving

PATH = "/rooms/lobby/messages"
THUMB, PARTY = "👍", "🎉"


@pytest.fixture
async def other(server: Serving) -> AsyncIterator[Chatter]:
    async with chatter(server.address) as connected:
        yield connected


async def act(peer: Peer, method: str, path: str, **fields: Any) -> Answer:
    return await peer.request(method, f"{PATH}{path}", fields or b"")


async def history(server: Serving, query: str = "?after=0") -> list[Any]:
    messages: list[Any] = (await ask(server.address, "GET", f"{PATH}{query}")).json["messages"]
    return messages


def reaction(offset: int, emoji: str) -> str:
    return f"/{offset}/reactions/{quote(emoji)}"


async def test_each_change_is_acknowledged_and_told_to_all_and_listed(
    server: Serving, friend: Chatter, other: Chatter
) -> None:
    """The same bytes are pushed, listed, polled and streamed; the message itself has its present state."""
    ann = friend.hello["user"]
    async with connect(server.address) as listener:
        await open_stream(listener)
        await friend.ask("publish", room="lobby", text="helo")
        first = (await friend.ask("join", room="lobby"))["messages"][0]
        await other.ask("join", room="lobby")
        epoch = first["cursor"].partition("-")[0]
        acks = [
            await friend.ask("edit", room="lobby", offset=1, text="hello"),
            await friend.ask("react", room="lobby", offset=1, emoji=THUMB, on=True),
            await friend.ask("delete", room="lobby", offset=1),
        ]
        assert [list(ack) for ack in acks] == [
            ["type", "id", "room", "offset", "cursor", "time"],
            ["type", "id", "room", "offset", "cursor", "time", "count"],
            ["type", "id", "room", "offset", "cursor", "time"],
        ]
        pushed = [await other.next(kind) for kind in ("edit", "reaction", "delete")]

        def record(number: int, **facts: Any) -> dict[str, Any]:
            place = {"room": "lobby", "offset": number, "cursor": f"{epoch}-{number}", "target": 1}
            return {"type": "", **place, **facts, "user": ann, "time": acks[number - 2]["time"]}

        expected = [
            record(2, text="hello") | {"type": "edit"},
            record(3, emoji=THUMB, on=True, count=1) | {"type": "reaction"},
            record(4) | {"type": "delete"},
        ]
        assert [list(one) for one in pushed] == [list(one) for one in expected]
        assert pushed == expected
        deleted = {**first, "text": "", "deleted": True}
        expected[0]["text"] = ""
        assert await history(server) == [deleted, *expected]
        assert (await ask(server.address, "GET", f"{PATH}?after=1&wait=5")).json["messages"] == expected
        assert (await other.ask("join", room="lobby", after=0))["messages"] == [deleted, *expected]
        events = [await event(listener) for _ in range(4)]
        assert [one["event"] for one in events] == ["message", "edit", "reaction", "delete"]
        assert [json.loads(one["data"]) for one in events[1:]] == pushed
        assert [one["id"] for one in events] == [f"{epoch}-{number}" for number in range(1, 5)]


async def test_an_author_may_edit_for_a_while_and_others_may_not(server: Serving, peer: Peer, friend: Chatter) -> None:
    await publish(server.address, "lobby", "mine")
    for command in ("edit", "delete"):
        refused = await friend.ask(command, room="lobby", offset=1, text="not yours")
        assert (refused["type"], refused["code"]) == ("error", "forbidden")
    async with serving(edit_window=0.0) as strict, connect(strict.address) as author:
        await publish(strict.address, "lobby", "carved in stone")
        for method, fields in (("PATCH", {"text": "x"}), ("DELETE", {})):
            answer = await act(author, method, "/1", **fields)
            assert (answer.status, answer.error) == (403, "forbidden")


async def test_a_write_that_names_another_user_is_refused_and_its_key_is_not_used(
    server: Serving, peer: Peer, friend: Chatter
) -> None:
    """The cookie of a browser may change between two requests, and a key belongs to one user."""
    over_http = (await ask(server.address, "GET", "/session")).json["user"]["id"]
    over_socket = friend.hello["user"]["id"]
    writes: list[tuple[str, str, dict[str, Any], str, dict[str, Any]]] = [
        ("POST", "", {"text": "one"}, "publish", {"text": "one"}),
        ("PATCH", "/1", {"text": "two"}, "edit", {"offset": 1, "text": "two"}),
        ("PUT", "/1/reactions/" + quote(THUMB), {}, "react", {"offset": 1, "emoji": THUMB, "on": True}),
        ("DELETE", "/1", {}, "delete", {"offset": 1}),
    ]
    for number, (method, path, body, kind, fields) in enumerate(writes, 1):
        for user in ("u_ann", over_socket, over_http):
            answer = await act(peer, method, path, **body, as_user=user, key=f"{number}")
            refusal = (answer.status, answer.error) if answer.status >= 300 else None
            assert refusal == (None if user == over_http else (409, "another_user"))
        for user in ("u_ann", over_http, over_socket):
            told = await friend.ask(kind, room="den", **fields, as_user=user, key=f"{number}")
            assert told.get("code") == (None if user == over_socket else "another_user")


async def test_malformed_changes_are_refused(server: Serving, peer: Peer) -> None:
    """Each has its error, and nothing is stored. More texts and emoji: tests/protocol."""
    await publish(server.address, "lobby", "gone")
    await act(peer, "DELETE", "/1")
    await publish(server.address, "lobby", "hi")
    before = await history(server)
    family = "👨‍👩‍👧‍👦"
    cases: tuple[tuple[str, str, dict[str, Any], int, str], ...] = (
        ("PATCH", "/1", {"text": "x"}, 410, "gone"),
        ("DELETE", "/1", {}, 410, "gone"),
        ("PUT", reaction(1, THUMB), {}, 410, "gone"),
        ("PATCH", "/2", {"text": "a deletion is no message"}, 404, "not_found"),
        ("DELETE", "/9", {}, 404, "not_found"),
        ("PUT", reaction(9007199254740991, THUMB), {}, 404, "not_found"),
        *(("DELETE", f"/{offset}", {}, 400, "bad_field") for offset in ("0", "-1", "x", "9" * 5000, "%D9%A3", "1.0")),
        ("PATCH", "/3", {"text": " "}, 400, "bad_field"),
        ("PATCH", "/3", {"text": "x", "key": ""}, 400, "bad_field"),
        ("DELETE", "/3", {"key": 7}, 400, "bad_field"),
        *(("PUT", reaction(3, emoji), {}, 400, "bad_field") for emoji in ("x", "")),
        ("POST", "", {"text": "x", "reply_to": 9}, 404, "not_found"),
        ("POST", "", {"text": "x", "reply_to": 0}, 400, "bad_field"),
        ("POST", "", {"text": "x", "mentions": ["x" * 65]}, 400, "bad_field"),
        ("GET", "/3", {}, 405, "method_not_allowed"),
        ("POST", reaction(3, THUMB), {}, 405, "method_not_allowed"),
        ("PUT", "/3/reactions", {}, 404, "not_found"),
        ("PUT", f"{reaction(3, THUMB)}/x", {}, 404, "not_found"),
    )
    for method, path, fields, status, code in cases:
        answer = await act(peer, method, path, **fields)
        assert (answer.status, answer.error) == (status, code), (method, path, fields)
    answer = await peer.request("DELETE", f"{PATH}/3", b"key", headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.error) == (415, "unsupported_media_type")
    assert await history(server) == before
    assert (await act(peer, "PUT", reaction(3, family))).status == 200


async def test_a_reaction_is_the_same_whichever_form_of_its_emoji_is_sent(
    server: Serving, peer: Peer, friend: Chatter
) -> None:  # fmt: skip
    """A heart of the page and one of a phone were two reactions, and neither took the other off."""
    await publish(server.address, "lobby", "hi")
    assert (await act(peer, "PUT", reaction(1, "❤"))).json["count"] == 1
    assert (await friend.ask("react", room="lobby", offset=1, emoji="❤\ufe0f", on=True))["count"] == 2
    assert (await friend.ask("react", room="lobby", offset=1, emoji="❤", on=True))["offset"] == 3
    assert (await act(peer, "DELETE", reaction(1, "❤\ufe0f"))).json["count"] == 1
    assert [each.get("reactions", each.get("emoji")) for each in await history(server)] == [
        {"❤\ufe0f": 1}, *["❤\ufe0f"] * 3
    ]  # fmt: skip


async def test_changes_count_against_the_publish_rate() -> None:
    async with serving(publish_rate=0.01) as server, connect(server.address) as peer, chatter(server.address) as friend:
        for method, path in (("POST", ""), ("PATCH", "/x"), ("DELETE", "/x"), ("PUT", "/x/reactions/x")):
            answer = await act(peer, method, path, text="x")
            assert (answer.status == 201) if method == "POST" else (answer.error == "rate_limited")
        await friend.ask("publish", room="lobby", text="x")
        refused = await friend.ask("react", room="lobby", offset=1, emoji=THUMB, on=True)
        assert (refused["code"], refused["retry_after"] > 0) == ("rate_limited", True)


async def test_a_deletion_answers_a_held_poll_and_its_text_is_in_no_later_answer(server: Serving, peer: Peer) -> None:
    """The text is in no answer from the ring, from a cached answer, or from the log."""
    for number in range(3):
        await publish(server.address, "lobby", f"secret {number}")
    await history(server, "?after=0&wait=1")
    async with connect(server.address) as poller:
        await poller.send(request("GET", f"{PATH}?after=3&wait=25"))
        await server.in_phase("held")
        await act(peer, "DELETE", "/2")
        (told,) = (await poller.response()).json["messages"]
        assert (told["type"], told["target"]) == ("delete", 2)
    for query in ("", "?after=0", "?after=0&wait=5", "?before=9", "?after=1&limit=1"):
        assert "secret 1" not in json.dumps(await history(server, query))


async def test_pages_of_messages_only(tmp_path: Path) -> None:
    """A page has as many messages as its limit, and its cursor is after the records that are left out."""
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}") as server, connect(server.address) as peer:
        for number in range(1, 4):
            await publish(server.address, "lobby", f"m{number}")
            for emoji in (THUMB, PARTY):
                await act(peer, "PUT", reaction(3 * number - 2, emoji))
        for query, offsets, reaches in (
            ("?kinds=message", [1, 4, 7], 9),
            ("?kinds=message&limit=2", [4, 7], 9),
            ("?kinds=message&limit=3&after=1", [4], 4),
            ("?kinds=message&after=7", [], 9),
            ("?kinds=message&before=7", [1, 4], 4),
            ("?kinds=message&before=4&limit=1", [1], 1),
            ("?kinds=message&wait=5", [1, 4, 7], 9),
            ("?kinds=message&wait=5&after=2", [4, 7], 9),
        ):
            page = (await peer.request("GET", f"{PATH}{query}")).json
            found = [message["offset"] for message in page["messages"]]
            assert (found, page["cursor"].partition("-")[2], page["recovered"]) == (offsets, str(reaches), True), query
        many = (await peer.request("GET", "/poll?room=lobby:1&room=tea&kinds=message")).json["rooms"]
        assert [message["offset"] for message in many["lobby"]["messages"]] == [4, 7]
        for query in ("kinds=edit", "kinds=", "kinds=message&kinds=message"):
            for path in (f"{PATH}?{query}", f"/poll?room=lobby&{query}", f"/rooms/lobby/events?{query}"):
                assert (await peer.request("GET", path)).error == "bad_field"


async def test_a_poll_for_messages_only_moves_on_with_every_record(server: Serving, peer: Peer) -> None:
    """Otherwise its client polls again from the same cursor, and is answered at once, for ever."""
    await publish(server.address, "lobby", "hi")
    async with connect(server.address) as poller:
        await poller.send(request("GET", f"{PATH}?after=1&wait=25&kinds=message"))
        await server.in_phase("held")
        await act(peer, "PUT", reaction(1, THUMB))
        page = (await poller.response()).json
        assert (page["messages"], page["cursor"].partition("-")[2]) == ([], "2")


async def test_events_of_messages_only_move_past_other_records(server: Serving, peer: Peer) -> None:
    """A record that is left out moves the id by an event without data, which a browser does not dispatch."""
    await publish(server.address, "lobby", "hi")
    async with connect(server.address) as listener, connect(server.address) as other:
        await open_stream(listener, "?after=0&kinds=message")
        await open_stream(other, "?after=0")
        await act(peer, "PUT", reaction(1, THUMB))
        await publish(server.address, "lobby", "there")
        for number, is_message in enumerate([True, False, True], 1):
            while "event: presence" in (lines := (await listener.until(b"\n\n")).decode().strip().split("\n")):
                pass
            assert lines[0].endswith(f"-{number}")
            fields = ["id", "event", "data"] if is_message else ["id"]
            assert [line.partition(":")[0] for line in lines] == fields
        assert [(await event(other))["event"] for _ in range(3)] == ["message", "reaction", "message"]
