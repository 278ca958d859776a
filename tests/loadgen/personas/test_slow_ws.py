"""Personas that connect by WebSocket and stay: the server's end is wsproto's."""

import pytest
import trio
from wsproto import events

from loadgen.personas import registry, slow_ws
from loadgen.personas.slow_ws import FRAME_BYTES
from tests.loadgen.stage import WebSocket, meeting, request_of, reset, talking, until


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_ws, "CLOSE_LOOK_SECONDS", 0.02)
    for name in ("slow-frame", "slow-fragment"):
        monkeypatch.setattr(registry()[name], "every_seconds", 0.005)


async def test_slow_frame_announces_a_frame_and_sends_single_bytes_of_it() -> None:
    async with talking("slow-frame") as (play, socket):
        parts = [await socket.receive() for _ in range(5)]
        assert all(isinstance(part, events.TextMessage) and not part.message_finished for part in parts)
        assert not any(isinstance(part, events.TextMessage) and part.frame_finished for part in parts)
        assert "".join(part.data for part in parts if isinstance(part, events.TextMessage)).strip("x") == ""
        frame = socket.data.partition(b"\r\n\r\n")[2]
        assert frame[:4] == b"\x81\xfe" + FRAME_BYTES.to_bytes(2)
        assert play.cohort.held == 1


async def test_slow_fragment_pings_between_fragments_of_a_message_without_end() -> None:
    async with talking("slow-fragment") as (play, socket):
        heard = [await socket.receive() for _ in range(11)]
        fragments = [event for event in heard if isinstance(event, events.TextMessage)]
        assert len(fragments) == 6
        assert not any(fragment.message_finished for fragment in fragments)
        assert len([event for event in heard if isinstance(event, events.Ping)]) == 5
        assert play.cohort.held == 1


@pytest.mark.parametrize("name", ["slow-fragment", "vanish"])
async def test_pings_are_answered_by_those_that_come_for_something_else(name: str) -> None:
    async with talking(name) as (_, socket):
        assert name != "vanish" or (await socket.hear())["type"] == "join", "it joins first"
        await socket.send(events.Ping(b"there?"))
        while not isinstance(heard := await socket.receive(), events.Pong):
            assert not isinstance(heard, events.CloseConnection)
        assert heard.payload == b"there?"


async def test_no_pong_answers_nothing() -> None:
    async with talking("no-pong") as (play, socket):
        await until(lambda: play.cohort.held)
        await socket.send(events.Ping(b"there?"))
        with trio.move_on_after(0.05):
            raise AssertionError(await socket.receive())
        assert play.cohort.held == 1


async def test_no_close_provokes_a_close_and_does_not_answer_it() -> None:
    async with meeting("no-close") as (play, stream):
        socket = WebSocket(stream)
        await socket.accept()
        error = await socket.receive()
        assert isinstance(error, events.CloseConnection), "wsproto takes bad UTF-8 for a close by itself"
        assert error.code == 1007
        await socket.send(events.CloseConnection(code=1007))
        with trio.move_on_after(0.05):
            raise AssertionError(await stream.receive_some())
        assert (play.cohort.held, play.cohort.answers) == (1, {"close 1007": 1})
        await stream.send_eof()
        with trio.move_on_after(0.05):
            raise AssertionError(await stream.receive_some(), "it must not even close when the server does")
        assert play.cohort.held == 1
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"close 1007, unanswered": 1})


async def test_no_close_that_is_merely_hung_up_on_says_so() -> None:
    async with meeting("no-close") as (play, stream):
        await WebSocket(stream).accept()
        await until(lambda: play.cohort.held)
        reset(stream)
        await until(lambda: play.cohort.ended == {"connection reset by peer": 1})


async def test_what_answers_a_member_s_handshake_is_a_head_and_no_frame() -> None:
    """Until it had joined, bytes that are no HTTP were read as frames: "a masked frame", or silence."""
    async with meeting("idle") as (play, stream):
        await request_of(stream)
        await stream.send_all(b"SSH-2.0-x\r\n\r\n")
        await until(lambda: play.cohort.failed == {"not an HTTP/1.1 status line: 'SSH-2.0-x'": 1})
