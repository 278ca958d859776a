"""The publisher waits for its members, keeps its pace, and ends when it is hung up on."""

import os
import runpy
import threading
from contextlib import nullcontext
from functools import partial
from typing import cast

import pytest
import trio

from loadgen.compare import relay
from loadgen.compare.catalogue import SCRIPTS
from loadgen.compare.process import DiedError, Server
from loadgen.compare.relay import Relay

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Standing:
    """A server in our own process: a connection costs two descriptors, one on either side."""

    last_words = ": out of channels"

    def __init__(self, port: int) -> None:
        self.port = port
        self.pid = os.getpid()


class Peer:
    """Counts what is posted; hangs up after so many."""

    def __init__(self, hang_up_after: int) -> None:
        self.posted = 0
        self._hang_up_after = hang_up_after

    async def serve(self, stream: trio.SocketStream) -> None:
        while data := await stream.receive_some():
            assert data.startswith(b"POST /publish HTTP/1.1\r\n")
            assert data.endswith(b"}")
            self.posted += 1
            if self.posted == self._hang_up_after:
                return
            await stream.send_all(ANSWER)


async def test_it_waits_posts_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_LOOK_SECONDS", 0.01)
    peer = Peer(hang_up_after=5)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, peer.serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        publishing = Relay(cast(Server, Standing(port)), "/publish")
        done = trio.Event()

        async def publish() -> None:
            await publishing.publish(members=2, rate=1000.0)
            done.set()

        nursery.start_soon(publish)
        for _ in range(20):
            await trio.sleep(0.01)
        assert peer.posted == 0, "nobody is there yet"
        with trio.fail_after(30):
            async with await trio.open_tcp_stream("127.0.0.1", port):  # a member: two descriptors
                await done.wait()
        assert peer.posted == 5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [ANSWER, b"HTTP/1.1 404 No\r\n\r\n", b""])
async def test_a_greeting_that_is_not_taken_says_so(answer: bytes) -> None:
    got = bytearray()

    async def serve(stream: trio.SocketStream) -> None:
        got.extend(await stream.receive_some())
        await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        greeting = Relay(cast(Server, Standing(listener.socket.getsockname()[1])), "/publish")
        with nullcontext() if answer == ANSWER else pytest.raises(DiedError, match="/publish was answered"):
            await greeting.greet()
        nursery.cancel_scope.cancel()
    assert got.startswith(b"POST /publish HTTP/1.1\r\n")
    assert got.endswith(relay.JOINED)


def test_as_large_as_everybody_s() -> None:
    """Deliveries are compared: a shorter message would be a cheaper one."""
    chatroom = runpy.run_path(str(SCRIPTS / "chatroom.py"))
    text = "lg01234567 1234 the quick brown fox jumps over the lazy dog"
    _, event, _ = chatroom["Chat"](threading.Event).say("compare", text)
    assert len(event) == len(relay._MESSAGE)
