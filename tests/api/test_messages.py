"""Publishing and history over HTTP (CONTRACT section 3)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.log.groups import Outcomes
from chatserver.log.interface import Draft
from chatserver.log.memory import MemoryLog
from tests.support.groups import GatedLog, append
from tests.support.peers import Address, Answer, ask, connect, publish, request
from tests.support.serving import serving

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
JSON = {"Content-Type": "application/json"}


async def post(address: Address, body: bytes | str, content_type: str | None = None, room: str = "lobby") -> Answer:
    data = body.encode() if isinstance(body, str) else body
    headers = {"Content-Type": content_type} if content_type else {}
    return await ask(address, "POST", f"/rooms/{room}/messages", data, headers=headers)


async def history(address: Address, query: str = "", room: str = "lobby") -> Any:
    answer = await ask(address, "GET", f"/rooms/{room}/messages{query}")
    assert answer.status == 200, answer
    return answer.json


# -- publish --------------------------------------------------------------------------------------------------------


async def test_publish_answers_with_the_place() -> None:
    async with serving() as server:
        answer = await post(server.address, '{"text":"hi"}', "application/json")
        assert answer.status == 201
        assert list(answer.json) == ["room", "offset", "cursor", "time"]
        assert answer.json["room"] == "lobby"
        assert answer.json["offset"] == 1
        assert re.fullmatch(r"\w+-1", answer.json["cursor"])
        assert TIME.fullmatch(answer.json["time"])
        (message,) = (await history(server.address))["messages"]
        assert list(message) == ["room", "offset", "cursor", "user", "text", "time"]
        assert message["text"] == "hi"
        assert {**message, **answer.json} == message
        assert message["user"].keys() == {"id", "name"}


async def test_the_body_may_be_the_text_itself() -> None:
    async with serving() as server:
        assert (await post(server.address, "hällo a=b&c", "application/x-www-form-urlencoded")).status == 201
        assert [m["text"] for m in (await history(server.address))["messages"]] == ["hällo a=b&c"]


async def test_what_cannot_be_published() -> None:
    """Each is refused clearly, stores nothing, and the connection goes on; tests/protocol has the other cases."""
    async with serving() as server, connect(server.address) as peer:
        path = "/rooms/lobby/messages"
        for body, content_type, status, code in (
            (b"{", "application/json", 400, "bad_json"),
            (b'{"x":' + b"[" * 5000, "application/json", 400, "bad_json"),
            (b'{"text":"a","text":"b"}', "application/json", 400, "bad_field"),
            (b"a\x07b", "text/plain", 400, "bad_field"),
            (b"hi", "image/png", 415, "unsupported_media_type"),
        ):
            answer = await peer.request("POST", path, body, headers={"Content-Type": content_type})
            assert (answer.status, answer.error) == (status, code)
        answer = await peer.request("POST", path, headers={"Content-Length": "0"})
        assert (answer.status, answer.error) == (400, "bad_field")
        assert (await peer.request("POST", path, b"fine")).status == 201
        assert (await history(server.address))["messages"][0]["text"] == "fine"


async def test_names_that_no_room_has() -> None:
    async with serving() as server:
        for room in ("Lobby", "-a", "a" * 65, "a%2Fb", "a%00b", "%E2%80%AE", "lobby%20", "caf%C3%A9"):
            answer = await post(server.address, "hi", room=room)
            assert answer.status in (400, 404)
            assert answer.error in ("bad_room", "bad_request", "not_found")


async def test_201_comes_only_when_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    log = GatedLog()
    monkeypatch.setattr("chatserver.server.open_log", lambda url: log)
    async with serving() as server, connect(server.address) as peer:
        await peer.send(request("POST", "/rooms/lobby/messages", b"hi"))
        await log.asked.wait()
        with trio.move_on_after(0.2) as waited:
            await peer.more()
        assert waited.cancelled_caught, "an answer before the log had it"
        assert (await history(server.address))["messages"] == []
        log.release.set()
        assert (await peer.response()).status == 201


async def test_the_same_key_is_the_same_message(tmp_path: Path) -> None:
    """Also behind a restart: the client that retries is the one that saw the connection break."""
    url = f"sqlite:{tmp_path / 'chat.db'}"
    async with serving(log=url) as server:
        first = await publish(server.address, "lobby", "once", key="k1")
        assert await publish(server.address, "lobby", "once", key="k1") == first
        other = await publish(server.address, "lobby", "another", key="k2")
        elsewhere = await publish(server.address, "ops", "once", key="k1")
        assert (first["offset"], other["offset"], elsewhere["offset"]) == (1, 2, 1)
        headers = {**JSON, "User-Agent": "somebody else"}
        body = json.dumps({"text": "mine", "key": "k1"}).encode()
        mine = await ask(server.address, "POST", "/rooms/lobby/messages", body, headers=headers)
        assert mine.json["offset"] == 3, "keys belong to a user"
    async with serving(log=url) as server:
        assert await publish(server.address, "lobby", "once", key="k1") == first
        assert [m["text"] for m in (await history(server.address))["messages"]] == ["once", "another", "mine"]


async def test_keys_raced_by_many_connections_store_one_message() -> None:
    async with serving() as server:
        places = []

        async def race() -> None:
            places.append(await publish(server.address, "lobby", "once", key="k"))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(race)
        assert places == places[:1] * 20
        assert len((await history(server.address))["messages"]) == 1


async def test_too_many_messages_are_told_when_to_try_again() -> None:
    async with serving(publish_rate=1.0) as server:
        answers = [await post(server.address, "hi") for _ in range(6)]
        refused = [answer for answer in answers if answer.status != 201]
        assert refused, "six at once pass a rate of one a second"
        assert {answer.error for answer in refused} == {"rate_limited"}
        assert {answer.status for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        stored = len((await history(server.address))["messages"])
        assert stored == len(answers) - len(refused)


async def test_the_rate_is_looked_at_before_the_content() -> None:
    """500 peers of one address posted texts of the dearest kind, and everybody waited seconds for a ping."""
    async with serving(publish_rate=0.01) as server:
        assert [(await post(server.address, b"\xff")).status for _ in range(3)] == [400, 429, 429]


async def test_a_full_log_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(MemoryLog):
        def _commit(self, drafts: Any) -> Outcomes:
            raise OSError("disk on fire at /secret/path")

    monkeypatch.setattr("chatserver.server.open_log", lambda url: Broken())
    async with serving() as server:
        answer = await post(server.address, "hi")
        assert (answer.status, answer.error) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert b"secret" not in answer.body
        server.logs.clear()  # the log's own complaint, which is right


# -- history --------------------------------------------------------------------------------------------------------


async def fill(log_url: str, count: int) -> None:
    from chatserver.log import open_log

    log = open_log(log_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(log.run, lambda records: None)
        for number in range(1, count + 1):
            await append(log, Draft("lobby", "u_1", "Ann", f"m{number}"))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("loaded", [False, True], ids=["from the log", "from the ring"])
async def test_pages_of_history(tmp_path: Path, *, loaded: bool) -> None:
    url = f"sqlite:{tmp_path / 'chat.db'}"
    await fill(url, 120)
    async with serving(log=url) as server:
        if loaded:
            await ask(server.address, "GET", "/rooms/lobby/messages?after=120&wait=0.1")

        async def offsets(query: str) -> tuple[list[int], str]:
            page = await history(server.address, query)
            assert list(page) == ["room", "cursor", "recovered", "messages"]
            assert page["recovered"] is True
            return [m["offset"] for m in page["messages"]], page["cursor"].partition("-")[2]

        assert await offsets("") == (list(range(71, 121)), "120")
        assert await offsets("?limit=3") == ([118, 119, 120], "120")
        assert await offsets("?after=0&limit=3") == ([1, 2, 3], "3")
        assert await offsets("?after=117") == ([118, 119, 120], "120")
        assert await offsets("?after=120") == ([], "120")
        assert await offsets("?before=4") == ([1, 2, 3], "3")
        assert await offsets("?before=100&limit=2") == ([98, 99], "99")
        assert await offsets("?before=500&limit=2") == ([119, 120], "120")
        assert await offsets("?before=1") == ([], "0")
        epoch = (await history(server.address))["cursor"].partition("-")[0]
        assert await offsets(f"?after={epoch}-118") == ([119, 120], "120")
        other = await history(server.address, "?after=other-118&limit=5")
        assert other["recovered"] is False
        assert [m["offset"] for m in other["messages"]] == [116, 117, 118, 119, 120]


async def test_questions_that_make_no_sense() -> None:
    async with serving(request_rate=0) as server, connect(server.address) as peer:
        for query, code in (
            *((query, "bad_field") for query in ("limit=0", "limit=201", "limit=ten", "limit=1&limit=2", "from=3")),
            *((query, "bad_field") for query in ("wait=-1", "wait=nan", "wait=inf", "after=1&before=2")),
            ("before=2&wait=5", "bad_field"),
            *((query, "bad_cursor") for query in ("after=x-y", "after=-1", "after=" + "9" * 30)),
            ("after=%FF", "bad_request"),
        ):
            answer = await peer.request("GET", f"/rooms/lobby/messages?{query}")
            assert (answer.status, answer.error) == (400, code), query
        assert (await peer.request("GET", "/healthz")).status == 200


async def test_a_room_nobody_wrote_in_is_empty() -> None:
    async with serving() as server:
        page = await history(server.address, room="nobody")
        assert page["messages"] == []
        assert page["recovered"] is True
        assert page["cursor"].endswith("-0")
