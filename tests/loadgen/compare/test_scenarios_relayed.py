"""What is posted to a server that only relays: a greeting that it takes, and messages when all have connected."""

import runpy
import threading
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import cast

import pytest
import trio

from loadgen.compare import scenarios
from loadgen.compare.catalogue import PEERS, SCRIPTS
from loadgen.compare.measure import Meter
from loadgen.compare.process import DiedError, Server
from loadgen.compare.results import Sizes
from loadgen.compare.scenarios import MESSAGE, greet
from tests.loadgen.plays import plan
from tests.loadgen.stage import answering

accept_upgrade, frame, TEXT = (
    runpy.run_path(str(SCRIPTS / "bare_frames.py"))[name] for name in ("accept_upgrade", "frame", "TEXT")
)

ANSWER = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Standing:
    """A server in our own process."""

    last_output = ": out of channels"
    pid = None

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def require(self) -> None:
        """It stands."""


@pytest.mark.parametrize("answer", [ANSWER, b"HTTP/1.1 404 No\r\n\r\n", b""])
async def test_a_greeting_that_is_not_taken_says_so(answer: bytes) -> None:
    got = bytearray()

    async def serve(stream: trio.SocketStream) -> None:
        got.extend(await stream.receive_some())
        await stream.send_all(answer)

    async with answering(serve) as port:
        with nullcontext() if answer == ANSWER else pytest.raises(DiedError, match="/publish was answered"):
            await greet(cast(Server, Standing(port)), "/publish")
    assert got.startswith(b"POST /publish HTTP/1.1\r\n")
    assert got.endswith(scenarios.JOINED)


class Channel:
    """Tells all members what is posted, and those who come the latest of it."""

    def __init__(self) -> None:
        self.members: list[trio.SocketStream] = []
        self.latest = b""
        self.heard: list[int] = []  # members, at each message

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            rest = b""
            while data := await stream.receive_some():
                head, end, rest = (rest + data).partition(b"\r\n\r\n")
                if stream in self.members or not end:
                    rest = b""
                elif b"Sec-WebSocket-Key: " in head:
                    key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
                    self.members.append(stream)
                    await stream.send_all(accept_upgrade(key.decode()) + frame(TEXT, self.latest))
                elif head.startswith(b"POST"):
                    self.latest, rest = rest, b""
                    self.heard += [len(self.members)] * (self.latest == MESSAGE)
                    for member in self.members if self.latest == MESSAGE else ():
                        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):  # it has left
                            await member.send_all(frame(TEXT, self.latest))
                    await stream.send_all(ANSWER)
                else:
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def test_all_members_are_there_before_the_first_message() -> None:
    channel = Channel()
    async with answering(channel.serve) as port:
        server = cast(Server, Standing(port))
        meter = Meter(server, plan(server.url), trio.Event())
        sizes = replace(Sizes(), members=20, busy_seconds=0.5)
        report = await scenarios._broadcast(meter, PEERS["nchan"], sizes, 1000, "paced")
    assert set(channel.heard) == {20}
    assert len(channel.heard) >= 5, "fifty a second, if the crowd begins late"
    assert {row.persona: row.deliveries for row in report.cohorts}["idle"] == 20 * len(channel.heard)


def test_as_large_as_everybody_s() -> None:
    """Deliveries are compared: a shorter message would be a cheaper one."""
    chatroom = runpy.run_path(str(SCRIPTS / "chatroom.py"))
    text = "lg01234567 1234 the quick brown fox jumps over the lazy dog"
    _, event, _ = chatroom["Chat"](threading.Event).say("compare", text)
    assert len(event) == len(scenarios.MESSAGE)
