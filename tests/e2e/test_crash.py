"""`kill -9` under load, several times.

Each acknowledged message is stored once, in order, and offsets have no holes. A listener that resumes by cursor gets
each message once. Publishers repeat unanswered messages with their keys before new ones.
"""

import json
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from tests.support.peers import Address, ClosedError, EndOfStreamError, chatter, connect, open_websocket, read_all
from tests.support.peers import request as request_bytes
from tests.support.ports import steady_port
from tests.support.serving import free_flags, server_process

ROUNDS = (1, 400, 40, 150)  # acknowledgements until the next kill
PUBLISHERS = 3  # over each transport
PIPELINED = 16  # publishes in flight on one WebSocket
ROOM = "lobby"

_GONE = (ClosedError, EndOfStreamError, trio.BrokenResourceError, OSError)


class Story:
    """The state of the clients over all rounds."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}  # by text, as acknowledged
        self.sent: dict[str, int] = defaultdict(int)  # by publisher: messages acknowledged, all before the next one
        self.tokens: dict[str, str] = {}
        self.heard: list[Any] = []
        self.cursor = "0"
        self.enough = trio.Event()
        self.acks_left = 0

    def begin(self, acks: int) -> None:
        self.acks_left = acks
        self.enough = trio.Event()

    def acknowledged(self, publisher: str, offset: int) -> None:
        text = f"{publisher}/{self.sent[publisher]}"
        assert text not in self.offsets
        self.offsets[text] = offset
        self.sent[publisher] += 1
        self.acks_left -= 1
        if self.acks_left <= 0:
            self.enough.set()

    def message(self, publisher: str, ahead: int = 0) -> dict[str, str]:
        """The next message of a publisher, or the one `ahead` after it; after a crash the unanswered one again."""
        text = f"{publisher}/{self.sent[publisher] + ahead}"
        return {"text": text, "key": text}


async def publish_over_http(story: Story, publisher: str, address: Address) -> None:
    headers = {"User-Agent": publisher, "Content-Type": "application/json"}
    with suppress(*_GONE):
        async with connect(address) as peer:
            while True:
                body = json.dumps(story.message(publisher)).encode()
                await peer.send(request_bytes("POST", f"/rooms/{ROOM}/messages", body, headers=headers))
                answer = await peer.response()
                assert answer.status == 201, answer
                story.acknowledged(publisher, answer.json["offset"])


async def publish_over_websocket(story: Story, publisher: str, address: Address) -> None:
    with suppress(*_GONE):
        async with connect(address) as peer:
            # The same user as before: keys belong to a user.
            token = story.tokens.get(publisher)
            friend = await open_websocket(peer, headers={"Cookie": f"chat_session={token}"} if token else {})
            assert story.tokens.setdefault(publisher, friend.hello["session"]) == friend.hello["session"]
            for ahead in range(PIPELINED):
                await friend.say(type="publish", room=ROOM, **story.message(publisher, ahead))
            while True:
                ack = await friend.next("ack")
                story.acknowledged(publisher, ack["offset"])
                await friend.say(type="publish", room=ROOM, **story.message(publisher, PIPELINED - 1))


async def listen(story: Story, address: Address, until: int | None = None) -> None:
    """Listen until the server ends, or until an offset."""
    try:
        async with chatter(address) as friend:
            joined = await friend.ask("join", room=ROOM, after=story.cursor)
            assert joined["recovered"] is True
            story.heard += joined["messages"]
            story.cursor = joined["cursor"]
            while until is None or len(story.heard) < until:
                message = await friend.next("message", "gap")
                assert message["type"] == "message"
                story.heard.append(message)
                story.cursor = message["cursor"]
    except _GONE:
        assert until is None


async def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    story, port = Story(), steady_port()
    for acks in ROUNDS:  # the same port at once, with connections of the last server
        async with server_process(tmp_path, *free_flags(tmp_path, "--quiet", port=port), is_forked=True) as server:
            story.begin(acks)
            async with trio.open_nursery() as nursery:
                for number in range(PUBLISHERS):
                    nursery.start_soon(publish_over_http, story, f"http{number}", server.address)
                    nursery.start_soon(publish_over_websocket, story, f"ws{number}", server.address)
                nursery.start_soon(listen, story, server.address)
                await story.enough.wait()
                server.process.kill()
                await server.process.wait()
            assert server.errors == ""
    async with server_process(tmp_path, *free_flags(tmp_path, "--quiet", port=port), is_forked=True) as server:
        stored = await read_all(server.address, ROOM)
        assert [message["offset"] for message in stored] == list(range(1, len(stored) + 1))
        places = {message["text"]: message["offset"] for message in stored}
        assert len(places) == len(stored), "a message is stored twice"
        assert {text: places.get(text) for text in story.offsets} == story.offsets
        for publisher, count in story.sent.items():
            own = [message["text"] for message in stored if message["text"].startswith(f"{publisher}/")]
            assert own == [f"{publisher}/{number}" for number in range(len(own))]
            assert count <= len(own)
        await listen(story, server.address, until=len(stored))
        assert [{**message, "type": None} for message in story.heard] == [{**each, "type": None} for each in stored]
