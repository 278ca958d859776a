"""What all peers in Python have in common: rooms in memory, the messages of chat.v1, and three flags.

Owns: everything that is not the framework's, so that a comparison compares frameworks. Waiting and broadcasting are a
peer's own. Standard library only: each peer runs in an environment of its own, without loadgen. May not: touch a
socket.

    chat = Chat(asyncio.Event)
    reply = chat.attend(connection, decode(text))
    await connection.send(reply.answer)
    broadcast(reply.members, reply.event)
"""

import argparse
import json
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

#: Connections that may wait for accept: with a backlog of 100 the 101st client waits a second for its SYN to be
#: repeated.
BACKLOG: Final = 4096

#: Messages that a room keeps, for polls and for members that join.
KEPT: Final = 50

PAGE: Final = "<!doctype html><title>chat</title><p>A peer of chatserver. Speak chat.v1 at /ws.\n"
_EPOCH: Final = "peer"
_USER: Final = {"id": "g_000000000000000", "name": "Guest"}


decode = json.loads


def encode(message: dict[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"))


HELLO: Final = encode({"type": "hello", "protocol": "chat.v1", "session": "peer", "user": _USER, "limits": {}})


class Room:
    """A room: its members and its last messages. `news` is an event of the framework, set when a message comes."""

    def __init__(self, name: str, news: Any) -> None:
        self.name = name
        self.news = news
        self.offset = 0
        self.members: set[Any] = set()
        self.latest: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def page(self, after: int | None) -> str:
        """The answer to a poll, or to a request for the latest messages."""
        return encode(self.described(after))

    def described(self, after: int | None) -> dict[str, Any]:
        """The room and its messages after an offset."""
        found = [message for message in self.latest if after is None or message["offset"] > after]
        return {"room": self.name, "cursor": f"{_EPOCH}-{self.offset}", "recovered": True, "messages": found}


class Reply(NamedTuple):
    """The answer to a message, and perhaps an event for the room's members, the sender included."""

    answer: str
    event: str = ""
    members: Collection[Any] = ()


class Chat:
    def __init__(self, make_news: Callable[[], Any]) -> None:
        self._make_news = make_news
        self._rooms: dict[str, Room] = {}

    def room(self, name: str) -> Room:
        if name not in self._rooms:
            self._rooms[name] = Room(name, self._make_news())
        return self._rooms[name]

    def attend(self, member: object, said: Mapping[str, Any]) -> Reply:
        name, number = said.get("room", ""), said.get("id")
        if said["type"] == "publish":
            receipt, event, members = self.say(name, said["text"])
            return Reply(encode({"type": "ack", "id": number, **receipt}), event, members)
        if said["type"] == "join":
            room = self.room(name)
            room.members.add(member)
            joined = {"type": "joined", "id": number, **room.described(None), "members": len(room.members)}
            return Reply(encode(joined))
        return Reply(encode({"type": "error", "id": number, "code": "unknown_type", "message": "join or publish"}))

    def say(self, name: str, text: str) -> tuple[dict[str, Any], str, Collection[Any]]:
        """Publish a message; return the receipt, the event, and the members that get it."""
        room = self.room(name)
        room.offset += 1
        receipt = {
            "room": name,
            "offset": room.offset,
            "cursor": f"{_EPOCH}-{room.offset}",
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        message = {**receipt, "user": _USER, "text": text}
        room.latest.append(message)
        woken, room.news = room.news, self._make_news()
        woken.set()
        return receipt, encode({"type": "message", **message}), tuple(room.members)

    def leave(self, member: object) -> None:
        for room in self._rooms.values():
            room.members.discard(member)


def text_of(body: bytes, content_type: str) -> str:
    """The text of a posted message, in JSON or plain."""
    return str(json.loads(body)["text"]) if content_type.startswith("application/json") else body.decode()


def asked(query: Mapping[str, str]) -> tuple[int | None, float]:
    """Return what a poll asks for: the offset after which messages are wanted, and the seconds it may be held."""
    cursor = query.get("after")
    return int(cursor.rpartition("-")[2]) if cursor else None, float(query.get("wait", "0"))


def arguments() -> argparse.Namespace:
    """`--port`; `--ping`, seconds between two pings of a WebSocket; `--workers`, the most threads, for `threaded`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ping", type=float, default=20.0)
    parser.add_argument("--workers", type=int, default=0, help="threads at most; 0 = no bound")
    return parser.parse_args()
