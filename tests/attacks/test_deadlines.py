"""Deadlines, beyond the attacks of the catalogue: progress that does not extend a deadline, and progress that does.

A healthy neighbour must notice nothing, and /metrics must have the reason.
"""

import math
import re
from collections import Counter

import pytest
import trio

from tests.support.chatting import ControlledLog
from tests.support.peers import ask, chatter, connect, request, say, upgrade
from tests.support.serving import neighbour, serving

pytestmark = pytest.mark.jumping_clock

FOR_EVER = 100_000  # bytes to drip: more than any deadline here allows
LONG = {"X": "y" * FOR_EVER}
ROOM = "/rooms/lobby/messages"


def post_head(length: int, **headers: str) -> bytes:
    return request("POST", ROOM, headers={"Content-Length": str(length), **headers})


HEALTH = request("GET", "/healthz")
#: Bytes sent at once; bytes dripped afterwards and the size of a piece; the answer, and the counted reason.
DRIPS = [
    (b"", b"", 1, "", "head-deadline"),
    (b"", upgrade(headers=LONG), 1, "408", "head-deadline"),
    (b"\r\n", request("GET", "/healthz", headers=LONG), 1, "408", "head-deadline"),
    (b"GET / HTTP/1.1\r\n", b"".join(b"X-%d: y\r\n" % number for number in range(90)), 10, "408", "head-deadline"),
    (HEALTH, b"", 1, "200", "keepalive-deadline"),
    (HEALTH + b"\r\n", b"", 1, "200", "keepalive-deadline"),  # some clients end a body with it: no request has begun
    (HEALTH + b"\r", b"", 1, "200", "head-deadline"),  # a 408 would be read as the answer to the next request
    (HEALTH, request("GET", "/healthz", headers=LONG), 1, "200 408", "head-deadline"),
    (post_head(5, Expect="100-continue"), b"", 1, "100 408", "body-deadline"),
    (
        request("POST", ROOM, headers={"Transfer-Encoding": "chunked"}),
        b"1\r\nx\r\n" * FOR_EVER,
        1,
        "408",
        "body-deadline",
    ),
    (post_head(60_000), b"x" * 59_000, 512, "408", "body-deadline"),  # at 25 KiB/s the cap decides
]


async def test_a_peer_that_drips_or_is_silent_is_closed_at_its_deadline() -> None:
    async with (
        serving(head_deadline=0.5, body_deadline=0.5, body_deadline_max=1.0, keepalive_deadline=0.7) as server,
        neighbour(server),
    ):

        async def drip(begun: bytes, rest: bytes, size: int, told: str) -> None:
            async with connect(server.address) as peer, trio.open_nursery() as nursery:
                await peer.send(begun)
                nursery.start_soon(lambda: peer.drip(rest, size=size, pause=0.02))
                said = (await peer.rest()).decode()
                assert re.findall(r"^HTTP/1.1 (\d+) ", said, re.MULTILINE) == told.split()
                assert ("408" in told) == ('"code":"timeout"' in said) == ("Connection: close" in said), begun
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for begun, rest, size, told, _ in DRIPS:
                nursery.start_soon(drip, begun, rest, size, told)
        for reason, times in Counter(reason for *_, reason in DRIPS).items():
            await server.counted(reason, times)


async def test_a_body_that_makes_progress_gets_more_time() -> None:
    """Each KiB extends the deadline by 1 s, so a body at 5 KiB/s is served."""
    async with (
        serving(body_deadline=0.6, body_deadline_max=20.0) as server,
        neighbour(server),
        connect(server.address) as peer,
    ):
        text = b"x" * 8000
        await peer.send(post_head(len(text)))
        await peer.drip(text, size=1024, pause=0.2)
        assert (await peer.response()).status == 201


async def test_a_peer_that_half_closes_before_the_answer_is_answered() -> None:
    """`printf … | nc`: requests and FIN in one go, poll and publish among them."""
    wire = request("GET", "/healthz") + request("POST", "/rooms/lobby/messages", b"hi")
    wire += request("GET", "/rooms/lobby/messages?after=1&wait=60")
    async with serving() as server, neighbour(server), connect(server.address) as peer:
        await peer.send(wire)
        await peer.end()
        assert [(await peer.response()).status for _ in range(2)] == [200, 201]
        assert (await peer.response()).json["messages"] == []
        assert await peer.rest() == b""


async def test_each_message_has_its_own_deadline() -> None:
    """Each read ends inside a frame for longer than the deadline, but each message is complete in time."""
    wire = say(type="ping", id=1)
    async with serving(message_deadline=1.0) as server, neighbour(server), chatter(server.address) as typist:
        await typist.peer.send(wire[:9])
        for _ in range(20):
            await typist.peer.send(wire[9:] + wire[:9])
            assert (await typist.next("pong"))["id"] == 1
            await trio.sleep(0.1)
        assert await server.closes("message-deadline") == 0


async def test_a_message_that_begins_in_place_of_a_pong_has_its_deadline() -> None:
    """A byte for each ping would otherwise keep half a message for ever."""
    async with (
        serving(ping_interval=1.0, message_deadline=0.5) as server,
        neighbour(server),
        chatter(server.address) as typist,
    ):
        await server.in_phase("pinged")
        await typist.peer.send(say(type="ping")[:1])
        await server.counted("message-deadline")


async def test_requests_to_a_log_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP requests end with 503 and a close; a WebSocket gets an error and continues."""
    monkeypatch.setattr("chatserver.log.groups.DRAIN_DEADLINE", 0.1)
    log = ControlledLog()
    wires = [
        request("POST", "/rooms/lobby/messages", b"hi"),
        request("GET", "/rooms/elsewhere/messages?after=0"),
        request("GET", "/rooms/elsewhere/messages?after=0&wait=60"),
        request("GET", "/rooms/elsewhere/events"),
    ]
    async with serving(serving_deadline=0.5, engine=log) as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        log.delay = log.commit_delay = math.inf

        async def ask_in_vain(wire: bytes) -> None:
            async with connect(server.address) as peer:
                await peer.send(wire)
                answer = await peer.response()
                assert (answer.status, answer.error) == (503, "unavailable")
                assert int(answer.headers["retry-after"]) >= 1
                assert await peer.rest() == b""

        async with trio.open_nursery() as nursery:
            for wire in wires:
                nursery.start_soon(ask_in_vain, wire)
                await trio.sleep(0.02)  # three requests wait for one room; the first has the earliest deadline
        await server.counted("serving-deadline", len(wires))
        assert (await ask(server.address, "GET", "/rooms/lobby/messages?after=0")).status == 200
        await friend.say(type="history", id="h", room="elsewhere")
        await friend.say(type="ping", id="p")
        error = await friend.next("error")
        assert (error["id"], error["code"], error["retry_after"] > 0) == ("h", "unavailable", True)
        assert (await friend.next("pong"))["id"] == "p", "a message that needs no log is answered"
