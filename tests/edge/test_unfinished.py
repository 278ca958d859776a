"""The budget of incomplete requests: charged as bytes arrive, released however a request ends."""

from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from chatserver.api.request import Request
from chatserver.meters import FairByteBudget
from chatserver.net.connections import FREE_INPUT
from tests.support.certificates import certificate
from tests.support.peers import Peer, chatter, connect, frame, request, say, upgrade
from tests.support.serving import Serving, eventually, serving

pytestmark = pytest.mark.jumping_clock

#: Parts of requests, each with what completes it.
HEAD = request("GET", "/rooms/lobby", headers={"X-Long": "x" * 6000})[:-2]
BODY = request("POST", "/rooms/lobby/messages", headers={"Content-Length": "30000"}) + b"x" * 3000
RESTS = {HEAD: b"\r\n", BODY: b"x" * 27_000}
ANSWERS = {HEAD: 200, BODY: 400}  # the message is over the limit


async def until_used(budget: FairByteBudget, size: int) -> None:
    await eventually(lambda: budget.used == size)


async def whole(server: Serving, peer: Peer, part: bytes) -> None:
    await peer.send(RESTS[part])
    assert (await peer.response()).status == ANSWERS[part]


async def refused(server: Serving, peer: Peer, part: bytes) -> None:
    server.server.parts.input_budget.most = 0
    await peer.send(b"x")
    answer = await peer.response()
    assert (answer.status, answer.error) == (503, "unavailable")
    assert 5 <= int(answer.headers["retry-after"]) < 15
    await server.counted("unfinished-full")


async def reset(server: Serving, peer: Peer, part: bytes) -> None:
    peer.reset()
    await server.counted("peer-reset")


async def late(server: Serving, peer: Peer, part: bytes) -> None:
    assert (await peer.response()).status == 408


async def cut_short(server: Serving, peer: Peer, part: bytes) -> None:
    """As a drain does in the end, see test_planted_faults.py."""
    for connection in filter(None, list(server.server.parts.connections.table)):
        server.server.parts.farewell.cut_short(connection)
    answer = await peer.response()
    assert (answer.status, answer.error, answer.headers["connection"]) == (503, "draining", "close")
    assert 1 <= int(answer.headers["retry-after"]) <= 6


@pytest.mark.parametrize("part", [HEAD, BODY], ids=["head", "body"])
@pytest.mark.parametrize("end", [whole, refused, reset, late, cut_short])
async def test_each_end_releases_it(end: Callable[[Serving, Peer, bytes], Awaitable[None]], part: bytes) -> None:
    """Other ends, FIN and eviction: tests/edge/test_planted_faults.py."""
    late_after = 1.0 if end is late else 10.0
    limits: dict[str, Any] = dict.fromkeys(("head_deadline", "body_deadline", "body_deadline_max"), late_after)
    async with serving(**limits) as server, connect(server.address) as peer:
        unfinished = server.server.parts.input_budget
        await peer.send(part)
        await until_used(unfinished, len(part) - FREE_INPUT)
        await end(server, peer, part)
        assert unfinished.used == 0


async def test_a_head_is_charged_as_it_arrives_and_once_with_its_body() -> None:
    async with serving() as server, connect(server.address) as peer:
        unfinished = server.server.parts.input_budget
        fields = request("POST", "/rooms/lobby/messages", headers={"X-Long": "x" * 6000, "Content-Length": "5"})
        for begin, end in pairwise((0, 3000, 5000, len(fields))):
            await peer.send(fields[begin:end])
            await until_used(unfinished, end - FREE_INPUT)
        await server.in_phase("body")
        assert not any(each and each.inbox for each in server.server.parts.connections.table), "kept but not charged"
        await peer.send(b"hello")
        assert (await peer.response()).status == 201
        assert unfinished.used == 0


@pytest.mark.parametrize(
    ("before", "wire", "answer"),
    [
        (b"", request("POST", "/rooms/lobby/messages", b"x" * 65_536), b"HTTP/1.1 400 "),
        (upgrade(), frame("x" * 65_536), b'"too_large"'),
    ],
    ids=["body", "message"],
)
async def test_the_longest_item_fits_into_a_limit_of_its_size(before: bytes, wire: bytes, answer: bytes) -> None:
    """It comes in two pieces, and its head is kept too. Each is refused for what it says."""
    limits: dict[str, Any] = dict.fromkeys(("max_body_bytes", "max_message_bytes", "all_unfinished_bytes"), 65_536)
    async with serving(**limits) as server, connect(server.address) as peer:
        await peer.send(before + wire[:-1])
        await eventually(lambda: server.server.parts.input_budget.used > 63_000)
        await peer.send(wire[-1:])
        await peer.until(answer)


@pytest.mark.parametrize(
    ("first", "waits", "status"),
    [
        (request("GET", "/healthz"), False, 200),
        (request("GET", "/poll?room=lobby&wait=60"), True, 200),
        (upgrade(), False, 503),
    ],
    ids=["answered", "held", "upgrade"],
)
async def test_what_is_sent_ahead_and_finds_no_room_ends_the_connection(
    first: bytes, waits: bool, status: int, tmp_path: Path
) -> None:
    """Its bytes are dropped, so the answer before it says that no other follows, and frames would begin anywhere.

    Over TLS, since a whole record is read at once; without it too little is read ahead to be charged.
    """
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key) as server, connect(server.address) as peer:
        server.server.parts.input_budget.most = 0
        if waits:
            await peer.send(first)
            await server.in_phase("held")
            await peer.send(HEAD + b"\r\n")
        else:
            await peer.send(first + HEAD + b"\r\n")
        answer = await peer.response()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await peer.rest() == b""


async def never(*_: object, **__: object) -> None:
    """A disk that does not answer."""
    await trio.sleep_forever()


async def test_nothing_of_a_body_is_kept_while_its_request_waits_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete body is not charged, so it must not be kept during the 5 s that a silent disk takes."""
    async with serving() as server, connect(server.address) as peer:
        parts = server.server.parts
        handled: list[Request] = []
        handle = parts.exchanges._routes.handle

        def remembering(request: Request) -> Any:
            handled.append(request)
            return handle(request)

        monkeypatch.setattr(parts.exchanges._routes, "handle", remembering)
        monkeypatch.setattr(parts.log, "head", never)
        await peer.send(request("GET", "/rooms/lobby", b"x" * 60_000))
        await server.in_phase("serving")
        assert [each.body for each in handled if each.head.path == "/rooms/lobby"] == [b""]


async def test_nothing_of_a_message_is_charged_while_its_reply_waits_for_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reply takes 5 s with a silent disk; the complete message is released before."""
    async with serving() as server, chatter(server.address) as friend:
        parts = server.server.parts
        budget = parts.input_budget

        monkeypatch.setattr(parts.log, "head", never)
        monkeypatch.setattr(parts.log, "read", never)
        wire = say(type="history", id="x" * 60, room="old", padding="x" * 8_000)
        await friend.peer.send(wire[:6_000])
        await eventually(lambda: budget.used > 0)
        await friend.peer.send(wire[6_000:])
        await server.in_phase("replying")
        assert (budget.used, len(budget)) == (0, 0)
