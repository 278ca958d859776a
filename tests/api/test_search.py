"""`GET /search`: results, rights, and the cost of hostile questions."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
import trio
from structlog.testing import capture_logs

from chatserver.api.pages import PAGE_BYTES
from chatserver.log.interface import LogUnavailable
from chatserver.log.markers import Marker
from chatserver.protocol.validation import MAX_TEXT_BYTES
from tests.api.asking import cookie
from tests.support.peers import Peer, ask, chatter, connect, publish
from tests.support.serving import Serving, eventually, sample, serving, until


async def search(peer: Peer, words: str, query: str = "") -> Any:
    answer = await peer.request("GET", f"/search?q={quote(words)}{query}")
    assert answer.status == 200, answer
    return answer.json


async def texts(peer: Peer, words: str, query: str = "") -> list[str]:
    return [result["text"] for result in (await search(peer, words, query))["results"]]


async def test_a_result_is_the_message_with_its_matches(server: Serving, peer: Peer) -> None:
    stored = await publish(server.address, "lobby", "Is the <Kettle> on?")
    await publish(server.address, "lobby", "no")
    answer = await search(peer, "kettle")
    assert list(answer) == ["results", "took_ms", "cached"]
    assert (answer["took_ms"] >= 0, answer["cached"]) == (True, False)
    [result] = answer["results"]
    [message] = (await ask(server.address, "GET", "/rooms/lobby/messages?limit=1&before=2")).json["messages"]
    assert result.pop("snippet") == [["Is the <", False], ["Kettle", True], ["> on?", False]]
    assert result == message
    assert result["cursor"] == stored["cursor"]


async def test_outcomes_of_searches_are_counted(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "Is the kettle on?")
    for _ in range(3):
        await search(peer, "kettle")
    assert (await peer.request("GET", "/search?q=")).status == 400
    text = (await peer.request("GET", "/metrics")).body
    assert [sample(text, "chatserver_searches_total", outcome=outcome) for outcome in ("found", "cached")] == [1, 2]
    for name in ("searches_total", "search_seconds_count"):
        assert sample(text, f"chatserver_{name}") == 3
    assert sample(text, "chatserver_search_seconds_bucket", le="+Inf") == 3


async def test_filters_by_room_user_and_cursor(server: Serving, peer: Peer) -> None:
    async with chatter(server.address) as ann:
        for room in ("a", "b"):
            for number in (1, 2):
                await publish(server.address, room, f"tea {number}")
        stored = await ann.ask("publish", room="a", text="tea of Ann")
        user = ann.hello["user"]["id"]
    assert len(await texts(peer, "tea")) == 5
    assert len(await texts(peer, "tea", "&limit=2")) == 2
    assert len(await texts(peer, "tea", "&room=b")) == 2
    assert await texts(peer, "tea", f"&user={user}") == ["tea of Ann"]
    assert await texts(peer, "tea", f"&user={user}&room=b") == []
    assert set(await texts(peer, "tea", f"&room=a&before={stored['cursor']}")) == {"tea 1", "tea 2"}
    assert len(await texts(peer, "tea", "&room=a&before=other-1")) == 3, "a cursor of another epoch filters nothing"
    assert await texts(peer, "tea", "&room=nobody") == []


async def test_read_markers_that_the_disk_does_not_take_are_one_line_in_the_log(
    server: Serving, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """It was a line for each search."""
    await publish(server.address, "lobby", "tea")
    moves: list[int] = []

    async def fails(markers: Sequence[Marker]) -> None:
        moves.append(len(markers))
        raise LogUnavailable("the disk is full")

    monkeypatch.setattr(server.server.parts.log.markers, "move", fails)
    with capture_logs() as lines:
        assert (await peer.request("PUT", "/rooms/lobby/read", {"offset": 1})).status == 204
        for number in range(1, 4):
            await search(peer, "tea")
            await eventually(lambda: len(moves) >= number)  # noqa: B023
    warnings = [line["event"] for line in lines if line["log_level"] != "info"]
    assert warnings in ([], ["read_markers_not_stored"]), "that of the task which stores all"


async def test_malformed_searches_are_refused(peer: Peer) -> None:
    for query, code in (
        ("limit=5", "bad_field"),
        ("q=", "bad_field"),
        ("q=%22%27%28", "bad_field"),
        (f"q={'x' * 257}", "bad_field"),
        (f"q={'+'.join(f'w{n}' for n in range(17))}", "bad_field"),
        ("q=a&limit=0", "bad_field"),
        ("q=a&limit=51", "bad_field"),
        ("q=a&before=3", "bad_field"),
        ("q=a&room=lobby&before=x", "bad_cursor"),
        ("q=a&room=Lobby", "bad_room"),
        (f"q=a&user={'x' * 65}", "bad_field"),
        ("q=a&user=u%1b%5d0;x%07", "bad_field"),
        ("q=%FF", "bad_request"),
    ):
        answer = await peer.request("GET", f"/search?{query}")
        assert (answer.status, answer.error) == (400, code), query


async def test_a_repeated_search_is_cached_until_a_change(server: Serving, peer: Peer) -> None:
    await publish(server.address, "lobby", "cake")
    await publish(server.address, "elsewhere", "tea")
    first = await search(peer, "cake")
    again = await search(peer, "Cake")
    assert (first["cached"], again["cached"]) == (False, True)
    assert again["results"] == first["results"]
    for room, cached in (("elsewhere", True), ("lobby", False)):
        assert (await peer.request("PUT", f"/rooms/{room}/messages/1/reactions/{quote('👍')}")).status == 200
        assert (await search(peer, "cake"))["cached"] == cached


async def test_over_the_rate(tmp_path: Path) -> None:
    async with serving(search_rate=0.01) as server, connect(server.address) as peer:
        limits = server.server.parts.search_limits
        with mock.patch.object(limits, "take", wraps=limits.take) as asked:
            answers = [await peer.request("GET", "/search?q=word") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 429, 429]
        assert asked.call_count == 3, "those of the user and of the network; a refusal needs no task"
        assert answers[1].error == "rate_limited"
        assert 90 <= int(answers[1].headers["retry-after"]) <= 100
        async with connect(server.address) as other:
            answer = await other.request("GET", "/search?q=word", headers={"User-Agent": "another"})
            assert answer.status == 200, "each user has its own rate"
        with mock.patch.object(limits, "wait", return_value=0.0):  # of two searches at once, only `take` refuses one
            assert (await peer.request("GET", "/search?q=word")).status == 429
        assert await server.metric("chatserver_searches_total", outcome="limited") == 3


@pytest.mark.parametrize(
    ("hanging", "method", "path"), [("index.find", "GET", "/search?q=word"), ("signouts.add", "DELETE", "/session")]
)
async def test_requests_for_more_than_a_read_delay_no_reads_of_history(
    tmp_path: Path, hanging: str, method: str, path: str
) -> None:
    """All tasks for searches and sign-outs hang, and history is answered."""

    async def slow(*_: Any, **__: Any) -> None:
        await trio.sleep_forever()

    settings: dict[str, Any] = {"log": f"sqlite:{tmp_path}/chat.db", "serving_deadline": 60.0, "drain_timeout": 0.1}
    async with serving(**settings) as server, trio.open_nursery() as nursery:
        await publish(server.address, "lobby", "hi")
        part, name = hanging.split(".")
        with mock.patch.object(type(getattr(server.server.parts.log, part)), name, slow):
            for number in range(12):
                headers = cookie(f"a-guests-token-{number:04}")
                nursery.start_soon(partial(ask, server.address, method, path, headers=headers))
            await server.in_phase("serving", 12)
            answer = await ask(server.address, "GET", "/rooms/lobby/messages?before=2")
            assert answer.status == 200
            nursery.cancel_scope.cancel()


async def test_a_search_that_is_too_much_work_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.log.sqlite_search.SEARCH_BUDGET", 0.0)
    monkeypatch.setattr("chatserver.log.sqlite_search.PROGRESS_INSTRUCTIONS", 1)
    async with serving(log=f"sqlite:{tmp_path}/chat.db") as server, connect(server.address) as peer:
        await publish(server.address, "lobby", "hi there")
        answer = await peer.request("GET", "/search?q=hi")
        assert (answer.status, answer.error, answer.headers["retry-after"]) == (503, "unavailable", "1")
        assert "took too long" in answer.json["error"]["message"]
        assert await server.metric("chatserver_searches_total", outcome="failed") == 1
        monkeypatch.undo()
        assert await texts(peer, "hi") == ["hi there"]


async def test_an_answer_is_bounded_in_bytes(server: Serving, peer: Peer) -> None:
    for _ in range(20):
        await publish(server.address, "lobby", "tea " * (MAX_TEXT_BYTES // 4))
    answer = await peer.request("GET", "/search?q=tea&limit=50")
    assert (len(answer.body) < PAGE_BYTES + 1000, 1 < len(answer.json["results"]) < 20) == (True, True)


@pytest.mark.jumping_clock
async def test_a_search_for_another_users_messages_is_in_the_audit_trail(server: Serving, peer: Peer) -> None:
    """The entry does not have the searched words. A search for one's own messages is not recorded."""
    async with chatter(server.address) as ann:
        await ann.ask("publish", room="lobby", text="tea")
        user = ann.hello["user"]["id"]
    mine = (await peer.request("GET", "/session")).json["user"]["id"]
    for query in (f"&user={mine}", f"&user={user}&room=lobby", f"&user={user}"):
        await search(peer, "tea", query)
    audit = server.server.parts.log.audit
    entries = await until(lambda: audit.read(after=None, limit=10), lambda entries: len(entries) > 1)
    for entry, room in zip(entries, ("lobby", "*"), strict=True):
        assert (entry.action, entry.target, entry.room, entry.by_id, entry.minor) == ("search", user, room, mine, True)
        assert "tea" not in entry.detail


async def test_a_search_stores_the_users_markers(server: Serving, peer: Peer) -> None:
    stored = await publish(server.address, "lobby", "tea")
    markers = server.server.parts.services.markers
    with mock.patch("chatserver.chat.read_markers.STORE_EVERY", 3600.0):
        assert (await peer.request("PUT", "/rooms/lobby/read", {"offset": stored["offset"]})).status == 204
        assert markers.waiting == 1
        await search(peer, "tea")
        await eventually(lambda: markers.waiting == 0)
