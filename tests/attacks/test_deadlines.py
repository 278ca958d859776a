"""Every row of the phases table, against a peer that misbehaves exactly so.

Each test has a healthy neighbour that must not notice, and looks for the reason in /metrics. The limits are short; what
is asserted is that the server ends it, for this reason and no other. A peer that goes on until the server hangs up
proves by the test's end that its progress did not help it.
"""

import pytest
import trio

from chatserver.log.interface import Head
from tests.support.groups import LateLog
from tests.support.peers import Peer, ask, chatter, connect, frame, request, say, upgrade
from tests.support.serving import neighbour, serving

FOR_EVER = 100_000  # bytes to drip: more than any deadline here allows


async def hung_up(peer: Peer) -> bytes:
    """Wait until the server closes; what it said before that."""
    return await peer.rest()


async def drips(peer: Peer, data: bytes, *, size: int = 1, pause: float = 0.02) -> bytes:
    """Drip until the server hangs up, and read what it says meanwhile."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: peer.drip(data, size=size, pause=pause))
        said = await hung_up(peer)
        nursery.cancel_scope.cancel()
    return said


# -- HEAD -----------------------------------------------------------------------------------------------------------


async def test_head_idle() -> None:
    async with serving(head_deadline=0.5) as server, neighbour(server):
        async with connect(server.address) as peer:
            assert await hung_up(peer) == b""
        await server.counted("head-deadline")


async def test_head_dripping() -> None:
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(90))
    heads = [
        (request("GET", "/healthz", headers={"X": "y" * FOR_EVER}), 1),
        (upgrade(headers={"X": "y" * FOR_EVER}), 1),
        (b"\r\n" + request("GET", "/healthz", headers={"X": "y" * FOR_EVER}), 1),
        (b"GET / HTTP/1.1\r\n" + lines, 10),
    ]
    async with serving(head_deadline=0.5) as server, neighbour(server):

        async def drip(head: bytes, size: int) -> None:
            async with connect(server.address) as peer:
                answer = await drips(peer, head, size=size)
                assert answer.startswith(b"HTTP/1.1 408 ")
                assert b'"code":"timeout"' in answer
                assert b"Connection: close" in answer

        async with trio.open_nursery() as nursery:
            for head, size in heads:
                nursery.start_soon(drip, head, size)
        await server.counted("head-deadline", len(heads))


async def test_head_of_a_second_request_has_a_deadline_of_its_own() -> None:
    async with serving(head_deadline=0.5, keepalive_deadline=60.0) as server, neighbour(server):
        async with connect(server.address) as peer:
            assert (await peer.request("GET", "/healthz")).status == 200
            answer = await drips(peer, b"GET /healthz HTTP/1.1\r\nX: " + b"y" * FOR_EVER)
            assert answer.startswith(b"HTTP/1.1 408 ")
        await server.counted("head-deadline")


# -- BODY -----------------------------------------------------------------------------------------------------------


def post_head(length: int, **headers: str) -> bytes:
    fields = {"Content-Length": str(length), **{name.replace("_", "-"): value for name, value in headers.items()}}
    return request("POST", "/rooms/lobby/messages", headers=fields)


async def test_body_dripping() -> None:
    chunked = request("POST", "/rooms/lobby/messages", headers={"Transfer-Encoding": "chunked"})
    async with serving(body_deadline=0.5) as server, neighbour(server):

        async def drip(head: bytes, body: bytes) -> None:
            async with connect(server.address) as peer:
                await peer.send(head)
                assert (await drips(peer, body)).startswith(b"HTTP/1.1 408 ")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip, post_head(60_000), b"x" * FOR_EVER)
            nursery.start_soon(drip, chunked, b"1\r\nx\r\n" * FOR_EVER)
        await server.counted("body-deadline", 2)


async def test_body_that_never_begins() -> None:
    async with serving(body_deadline=0.5) as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(post_head(5, Expect="100-continue"))
            assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert (await hung_up(peer)).startswith(b"HTTP/1.1 408 ")
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


async def test_body_that_makes_progress_is_not_given_for_ever() -> None:
    """10 KiB/s would earn ten times the time it takes, but for the cap."""
    async with serving(body_deadline=0.6, body_deadline_max=1.0) as server, neighbour(server):
        async with connect(server.address) as peer:
            await peer.send(post_head(60_000))
            assert (await drips(peer, b"x" * 59_000, size=512, pause=0.05)).startswith(b"HTTP/1.1 408 ")
        await server.counted("body-deadline")


# -- KEEPALIVE and HELD ---------------------------------------------------------------------------------------------


async def test_keepalive() -> None:
    async with serving(keepalive_deadline=0.5) as server, neighbour(server):
        async with connect(server.address) as peer:
            assert (await peer.request("GET", "/healthz")).status == 200
            assert await hung_up(peer) == b""
        await server.counted("keepalive-deadline")


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
        assert (await peer.response()).status == 200
        assert (await peer.response()).status == 201
        assert (await peer.response()).json["messages"] == []
        assert await peer.rest() == b""


# -- OPEN and MESSAGE -----------------------------------------------------------------------------------------------


async def test_open_who_answers_a_ping_stays_and_who_does_not_is_closed() -> None:
    async with serving(ping_interval=1.0, pong_deadline=1.0) as server, neighbour(server):

        async def fall_silent() -> None:
            async with chatter(server.address) as silent:
                silent.answers_pings = False
                closed = await silent.closed()
                assert closed.code == 4000
                assert closed.reason
                assert silent.pings == 1

        async def answer() -> None:
            async with chatter(server.address) as idle:
                while idle.pings < 2:  # the second would not come if the answer to the first did not count
                    with trio.move_on_after(0.1):
                        await idle.hear()
                assert (await idle.ask("ping"))["type"] == "pong"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fall_silent)
            nursery.start_soon(answer)
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


async def test_closing_without_an_answer() -> None:
    async with serving(close_deadline=0.5) as server, neighbour(server), chatter(server.address) as rude:
        await rude.peer.send(frame("x", masked=False))
        assert (await rude.closed()).code == 1002
        await server.counted("bad-frame")  # while the peer keeps its side open
        await server.held(1)


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_closing_while_the_peer_goes_on_sending(transport: str) -> None:
    async with serving(close_deadline=0.5) as server, neighbour(server), connect(server.address) as rude:
        if transport == "websocket":
            await rude.send(upgrade() + frame("x", masked=False))
        else:
            await rude.send(b"\x00")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: rude.drip(b"x" * 10_000_000, size=1000, pause=0.001))
            await server.counted("bad-frame" if transport == "websocket" else "bad-request")
            nursery.cancel_scope.cancel()


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


async def test_serving_with_a_log_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    log = HangingLog()
    monkeypatch.setattr("chatserver.server.open_log", lambda url: log)
    monkeypatch.setattr("chatserver.log.groups.DRAIN_DEADLINE", 0.1)
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
        assert (await friend.ask("ping"))["type"] == "pong"  # whoever needs no log does not notice
        assert (await ask(server.address, "GET", "/rooms/lobby/messages?after=0")).status == 200


async def test_serving_a_websocket_with_a_log_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question gets an error and the connection lives; the same holds for what it had asked behind it."""
    log = HangingLog()
    monkeypatch.setattr("chatserver.server.open_log", lambda url: log)
    monkeypatch.setattr("chatserver.log.groups.DRAIN_DEADLINE", 0.1)
    async with serving(serving_deadline=0.5) as server, chatter(server.address) as friend:
        log.hangs = True
        await friend.say(type="history", id=1, room="elsewhere")
        await friend.say(type="ping", id=2)
        error = await friend.next("error")
        assert (error["id"], error["code"]) == (1, "unavailable")
        assert error["retry_after"] > 0
        assert (await friend.next("pong"))["id"] == 2
