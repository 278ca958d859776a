"""Every row of the phases table, against a peer that misbehaves exactly so.

A healthy neighbour must not notice, and the reason is looked for in /metrics. A peer that drips until the server hangs
up proves by the end of its test that its progress did not help it.
"""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from chatserver.log.interface import Head
from tests.support.groups import LateLog
from tests.support.peers import Peer, ask, chatter, connect, frame, request, say, upgrade
from tests.support.serving import neighbour, serving

pytestmark = pytest.mark.jumping_clock

FOR_EVER = 100_000  # bytes to drip: more than any deadline here allows
LINES = b"".join(b"X-%d: y\r\n" % number for number in range(90))
LONG = {"X": "y" * FOR_EVER}


def post_head(length: int, **headers: str) -> bytes:
    return request("POST", "/rooms/lobby/messages", headers={"Content-Length": str(length), **headers})


async def drips(peer: Peer, data: bytes, *, size: int = 1, pause: float = 0.02) -> bytes:
    """Drip until the server hangs up, and read what it says meanwhile."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: peer.drip(data, size=size, pause=pause))
        said = await peer.rest()
        nursery.cancel_scope.cancel()
    return said


#: What is sent at once, what is dripped behind it and in pieces of how many bytes, for each connection.
HEADS = [
    (b"", request("GET", "/healthz", headers=LONG), 1),
    (b"", upgrade(headers=LONG), 1),
    (b"\r\n", request("GET", "/healthz", headers=LONG), 1),
    (b"GET / HTTP/1.1\r\n", LINES, 10),
]
BODIES = [
    (post_head(60_000), b"x" * FOR_EVER, 1),
    (request("POST", "/rooms/lobby/messages", headers={"Transfer-Encoding": "chunked"}), b"1\r\nx\r\n" * FOR_EVER, 1),
    (post_head(60_000), b"x" * 59_000, 512),  # 25 KiB/s would earn more time than it takes, but for the cap
]


@pytest.mark.parametrize(("cases", "reason"), [(HEADS, "head-deadline"), (BODIES, "body-deadline")])
async def test_a_request_that_drips_is_told_408(cases: Sequence[tuple[bytes, bytes, int]], reason: str) -> None:
    settings: dict[str, Any] = {"head_deadline": 0.5, "body_deadline": 0.5, "body_deadline_max": 1.0}
    async with serving(**settings) as server, neighbour(server):

        async def drip(begun: bytes, rest: bytes, size: int) -> None:
            async with connect(server.address) as peer:
                await peer.send(begun)
                answer = await drips(peer, rest, size=size)
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b'"code":"timeout"' in answer
                assert b"Connection: close" in answer

        async with trio.open_nursery() as nursery:
            for case in cases:
                nursery.start_soon(drip, *case)
        await server.counted(reason, len(cases))


async def test_silence_before_a_request_and_behind_one() -> None:
    """A second request's head has a deadline of its own."""
    async with serving(head_deadline=0.5, keepalive_deadline=0.7) as server, neighbour(server):
        async with connect(server.address) as peer:
            assert await peer.rest() == b""
        async with connect(server.address) as peer:
            assert (await peer.request("GET", "/healthz")).status == 200
            assert await peer.rest() == b""
        async with connect(server.address) as peer:
            assert (await peer.request("GET", "/healthz")).status == 200
            answer = await drips(peer, b"GET /healthz HTTP/1.1\r\nX: " + b"y" * FOR_EVER)
            assert answer.startswith(b"HTTP/1.1 408 ")
        await server.counted("head-deadline", 2)
        await server.counted("keepalive-deadline")


async def test_body_that_never_begins() -> None:
    async with serving(body_deadline=0.5) as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(post_head(5, Expect="100-continue"))
            assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")
        await server.counted("body-deadline")


async def test_body_that_makes_progress_is_given_time() -> None:
    """1 s for each KiB: at 5 KiB/s it takes longer than the deadline and is served."""
    async with (
        serving(body_deadline=0.6, body_deadline_max=20.0) as server,
        neighbour(server),
        connect(server.address) as peer,
    ):
        text = b"x" * 8000
        await peer.send(post_head(len(text)))
        await peer.drip(text, size=1024, pause=0.2)
        assert (await peer.response()).status == 201


# -- HELD -----------------------------------------------------------------------------------------------------------


async def test_held_to_the_end_is_an_empty_page_and_no_fault() -> None:
    async with serving(poll_wait_max=1.0) as server, neighbour(server), connect(server.address) as peer:
        page = (await peer.request("GET", "/rooms/lobby/messages?after=0&wait=60")).json
        assert page["messages"] == []
        assert (await peer.request("GET", "/healthz")).status == 200


async def test_half_closed_poll_is_answered_at_once() -> None:
    """FIN on a held poll: gone, or done with sending. An answer and a close serve both."""
    async with serving() as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(request("GET", "/rooms/lobby/messages?after=0&wait=60"))
            await server.in_phase("held")
            await peer.end()
            answer = await peer.response()
            assert (answer.json["messages"], answer.headers["connection"]) == ([], "close")
            assert await peer.rest() == b""
        assert await server.metric("chatserver_held_polls") == 0


async def test_half_closed_before_the_answer_is_answered_all_the_same() -> None:
    """`printf … | nc`: requests and FIN in one go, poll and publish among them."""
    wire = request("GET", "/healthz") + request("POST", "/rooms/lobby/messages", b"hi")
    wire += request("GET", "/rooms/lobby/messages?after=1&wait=60")
    async with serving() as server, neighbour(server), connect(server.address) as peer:
        await peer.send(wire)
        await peer.end()
        assert [(await peer.response()).status for _ in range(2)] == [200, 201]
        assert (await peer.response()).json["messages"] == []
        assert await peer.rest() == b""


# -- OPEN and MESSAGE -----------------------------------------------------------------------------------------------


async def test_only_a_peer_that_answers_pings_stays() -> None:
    async with serving(ping_interval=1.0, pong_deadline=1.0) as server, neighbour(server):
        async with chatter(server.address) as idle, chatter(server.address) as silent:
            silent.answers_pings = False
            while idle.pings < 3:  # the next one would not come if the answer to the last did not count
                with trio.move_on_after(0.1):
                    await idle.hear()
            closed = await silent.closed()
            assert (closed.code, silent.pings) == (4000, 1)
            assert closed.reason
            assert (await idle.ask("ping"))["type"] == "pong"
        await server.counted("pong-deadline")


async def test_message_never_finished() -> None:
    """Half a frame, half a header, and fragments without end; control frames are no progress, though answered."""
    fragments = (frame("x", opcode=0, fin=False) + frame(b"", opcode=9)) * 2000
    cases = [
        (frame("x" * 16_000)[:8], b"x" * 15_000, 1),
        (b"\x81", b"", 1),
        (frame("x", fin=False), fragments, 13),
    ]
    async with serving(message_deadline=0.5, max_fragments=4096) as server, neighbour(server):

        async def dawdle(begun: bytes, rest: bytes, size: int) -> None:
            async with chatter(server.address) as slow:
                await slow.peer.send(begun)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda: slow.peer.drip(rest, size=size, pause=0.02))
                    assert (await slow.closed()).code == 1008
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for case in cases:
                nursery.start_soon(dawdle, *case)
        await server.counted("message-deadline", len(cases))


async def test_message_finished_in_time_starts_anew() -> None:
    """Each read ends inside a frame, for two deadlines on end; but each message is done in time."""
    wire = say(type="ping", id=1)
    async with serving(message_deadline=1.0) as server, neighbour(server), chatter(server.address) as typist:
        await typist.peer.send(wire[:9])
        for _ in range(20):
            await typist.peer.send(wire[9:] + wire[:9])
            assert (await typist.next("pong"))["id"] == 1
            await trio.sleep(0.1)
        assert await server.closes("message-deadline") == 0


# -- CLOSING --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goes_on", [False, True], ids=["silent", "goes on sending"])
@pytest.mark.parametrize(
    ("wire", "reason"),
    [(upgrade() + frame("x", masked=False), "bad-frame"), (b"\0", "bad-request")],
    ids=["websocket", "http"],
)
async def test_closing_ends_while_the_peer_keeps_its_side_open(wire: bytes, reason: str, *, goes_on: bool) -> None:
    async with serving(close_deadline=0.5) as server, neighbour(server), connect(server.address) as rude:
        await rude.send(wire)
        async with trio.open_nursery() as nursery:
            if goes_on:
                nursery.start_soon(lambda: rude.drip(b"x" * 1_000_000, size=1000, pause=0.01))
            await server.counted(reason)
            nursery.cancel_scope.cancel()
        await server.held(1)


# -- SERVING --------------------------------------------------------------------------------------------------------


class HangingLog(LateLog):
    """Works until it is told to hang."""

    def __init__(self) -> None:
        super().__init__()
        self.hangs = False

    async def before_commit(self) -> None:
        await self._perhaps()

    async def head(self, room: str) -> Head:
        await self._perhaps()
        return await super().head(room)

    async def _perhaps(self) -> None:
        if self.hangs:
            await trio.sleep_forever()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> HangingLog:
    made = HangingLog()
    monkeypatch.setattr("chatserver.server.open_log", lambda url: made)
    monkeypatch.setattr("chatserver.log.groups.DRAIN_DEADLINE", 0.1)
    return made


async def test_serving_with_a_log_that_hangs(log: HangingLog) -> None:
    wires = [
        request("POST", "/rooms/lobby/messages", b"hi"),
        request("GET", "/rooms/elsewhere/messages?after=0"),
        request("GET", "/rooms/elsewhere/messages?after=0&wait=60"),
        request("GET", "/rooms/elsewhere/events"),
    ]
    async with serving(serving_deadline=0.5) as server, chatter(server.address) as friend:
        await friend.ask("join", room="lobby")
        log.hangs = True

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
                await trio.sleep(0.02)  # three want one room: the first one's time is up before the others'
        await server.counted("serving-deadline", len(wires))
        assert (await friend.ask("ping"))["type"] == "pong", "a question that needs no log is answered"
        assert (await ask(server.address, "GET", "/rooms/lobby/messages?after=0")).status == 200


async def test_serving_a_websocket_with_a_log_that_hangs(log: HangingLog) -> None:
    """A question gets an error and the connection lives; the same holds for what it had asked behind it."""
    async with serving(serving_deadline=0.5) as server, chatter(server.address) as friend:
        log.hangs = True
        await friend.say(type="history", id=1, room="elsewhere")
        await friend.say(type="ping", id=2)
        error = await friend.next("error")
        assert (error["id"], error["code"]) == (1, "unavailable")
        assert error["retry_after"] > 0
        assert (await friend.next("pong"))["id"] == 2
