"""Reads strictly what a server sends to one client: anything that a client could not understand raises.

Owns: the three forms (answers, frames, events), the check that each room's messages come once and in order or with an
announced gap, and their contents. May not: send, or know how bytes came. Written without `chatserver`, like
tests/support/peers.py.
"""

import json
from contextlib import suppress
from typing import Any

import wsproto.events as ws
from wsproto.connection import Connection, ConnectionType
from wsproto.utilities import LocalProtocolError


class Hearing:
    """Takes bytes; `statuses`, `kinds` and `reached` say what they were."""

    def __init__(self) -> None:
        self.statuses: list[int] = []  # of answers
        self.kinds: list[str] = []  # of chat messages and events
        self.reached: dict[str, int] = {}  # the offset up to which each room was heard, while joined
        self.heard: dict[tuple[str, int], set[str]] = {}  # texts, by room and offset: one, unless it was changed
        self.promised: set[tuple[str, int]] = set()  # room and offset of what it was told to be durable
        self.close_code: int | None = None
        self.replies = b""  # pongs and the answer to a close, to be sent if the client is polite
        self.readable = True  # until something was asked whose answer cannot be told from its bytes
        self._buffer = b""
        self._frames: Connection | None = None
        self._text = ""
        self._events = False

    def hear(self, data: bytes) -> None:
        if not self.readable:
            return
        self._buffer += data
        if self._frames is not None:
            self._hear_frames()
        elif self._events:
            self._hear_events()
        else:
            self._hear_answers()

    # -- answers ----------------------------------------------------------------------------------------------------

    def _hear_answers(self) -> None:
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("ascii").split("\r\n")
            version, status, _ = first.split(" ", 2)
            assert version == "HTTP/1.1", first
            fields = dict(line.lower().split(": ", 1) for line in lines)
            vary = [line for line in lines if line.startswith("Vary: ")]  # a list (RFC 9110 section 5.3)
            assert len(fields.keys() - {"vary"}) + len(set(vary)) == len(lines), f"a field twice: {lines}"
            if status != "101" and fields.get("content-type", "").startswith("text/event-stream"):
                self._buffer, self._events = rest, True
                self._hear_events()
                return
            size = int(fields["content-length"]) if status not in ("100", "101", "204", "304") else 0
            if len(rest) < size:
                return
            self.statuses.append(int(status))
            body, self._buffer = rest[:size], rest[size:]
            if fields.get("content-type") == "application/json":
                self._check_answer(int(status), json.loads(body))
            if status == "101":
                self._frames = Connection(ConnectionType.CLIENT)
                self._hear_frames()
                return
        assert len(self._buffer) < 1 << 20, "an endless answer"

    def _check_answer(self, status: int, answer: Any) -> None:
        if status >= 400:
            assert answer["error"]["code"], answer
            assert answer["error"]["message"], answer
        elif status == 201:
            self.promised.add((answer["room"], answer["offset"]))
        elif "recovered" in answer:
            self._check_page(answer)
        elif "rooms" in answer and isinstance(answer["rooms"], dict):
            for page in answer["rooms"].values():
                self._check_page(page)

    def _check_page(self, page: Any) -> None:
        offsets = [self._note(message) for message in page["messages"]]
        if offsets:
            assert offsets == list(range(offsets[0], offsets[0] + len(offsets))), f"a page with a hole: {offsets}"
            assert offset_of(page["cursor"]) == offsets[-1], "a cursor that is not the page's end"

    def _note(self, message: Any) -> int:
        """Record a text; its offset."""
        offset = int(message["offset"])
        place = message["room"], offset
        self.heard.setdefault(place, set()).add(message.get("text", ""))
        return offset

    # -- frames -----------------------------------------------------------------------------------------------------

    def _hear_frames(self) -> None:
        assert self._frames is not None
        if self.close_code is not None:
            assert not self._buffer, f"bytes behind the close frame: {self._buffer[:80]!r}"
            return
        data, self._buffer = self._buffer, b""
        self._frames.receive_data(data)
        for event in self._frames.events():
            assert self.close_code is None, f"{event} behind the close frame"
            if isinstance(event, ws.TextMessage):
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    self._hear_message(json.loads(text))
            elif isinstance(event, ws.Ping):
                self._reply(event.response())
            elif isinstance(event, ws.CloseConnection):
                self.close_code = int(event.code)
                assert self.close_code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013) or (
                    self.close_code >= 3000
                ), event
                self._reply(event.response())
            else:
                assert isinstance(event, ws.Pong), event

    def _reply(self, event: ws.Event) -> None:
        assert self._frames is not None
        with suppress(LocalProtocolError):  # the client had closed before: there is nothing to answer
            self.replies += self._frames.send(event)

    def _hear_message(self, message: Any) -> None:
        kind = message["type"]
        self.kinds.append(kind)
        room = message.get("room", "")
        if kind == "joined":
            self._check_page(message)
            self.reached[room] = offset_of(message["cursor"])
        elif kind == "left" or (kind == "error" and "id" not in message and room):  # a moderator has ended it
            self.reached.pop(room, None)
        elif kind in ("message", "edit", "delete", "reaction"):
            assert room in self.reached, f"a message of {room}, which this client has not joined"
            self._follow(room, self._note(message))
        elif kind == "ack":
            self.promised.add((room, message["offset"]))
        elif kind == "history":
            self._check_page(message)
        elif kind == "gap":
            assert room in self.reached, f"a gap in {room}, which this client has not joined"
            self._skip(room, offset_of(message["after"]), offset_of(message["until"]))

    def _follow(self, room: str, offset: int) -> None:
        assert offset == self.reached[room] + 1, f"{room}: {offset} came behind {self.reached[room]}"
        self.reached[room] = offset

    def _skip(self, room: str, after: int, until: int) -> None:
        assert after == self.reached[room], f"{room}: a gap from {after} was told at {self.reached[room]}"
        assert until > after, f"{room}: a gap of nothing at {after}"
        self.reached[room] = until

    # -- events -----------------------------------------------------------------------------------------------------

    def _hear_events(self) -> None:
        while b"\n\n" in self._buffer:
            block, _, self._buffer = self._buffer.partition(b"\n\n")
            event: dict[str, str] = {}
            for line in block.decode().split("\n"):
                name, colon, value = line.partition(":")
                assert colon, f"no field: {line!r}"
                event[name] = value.removeprefix(" ")
            if "id" not in event:
                continue  # a comment, or retry
            self.kinds.append(event["event"])
            offset = offset_of(event["id"])
            if event["event"] == "gap":
                self.reached["events"] = offset
            elif event["event"] == "presence":
                assert "events" not in self.reached, "of what is no record, only the beginning has an id"
                self.reached["events"] = offset
            else:
                assert self._note(json.loads(event["data"])) == offset, event
                if "events" in self.reached:
                    self._follow("events", offset)
                self.reached["events"] = offset


def offset_of(cursor: str) -> int:
    """The number in a cursor."""
    return int(cursor.rpartition("-")[2])
