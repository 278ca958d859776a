"""A client's session, for which the test plays the server."""

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from chatserver.client import requests, wire
from chatserver.client.session import Outcome, Session
from tests.client.fake import message


class Peer:
    """A session in `lobby`; the test plays the server."""

    def __init__(self) -> None:
        self.jitter = 0.0
        self.session = Session(jitter=lambda: self.jitter)
        self.session.opened(0.0)
        self.session.join("lobby", latest=50)
        self.now = self.clock = 0.0

    def sent(self) -> dict[str, Any]:
        """Return the only frame that the session sends now."""
        (request,) = self.session.outgoing(self.now, self.clock)
        decoded: dict[str, Any] = json.loads(msgspec.json.encode(request))
        return decoded

    def publish(self, text: str, *, room: str = "lobby", until: float = math.inf) -> int:
        return self.session.ask(requests.Publish(room=room, text=text), until=until)

    def sends_nothing(self) -> bool:
        return self.session.outgoing(self.now, self.clock) == []

    def give(self, type_: str, **fields: Any) -> list[Outcome]:
        return self.session.receive(wire.decode(json.dumps({"type": type_, **fields})), self.now)

    def answer(self, type_: str, *offsets: int, recovered: bool = True, epoch: str = "e1") -> list[Outcome]:
        """Answer the request that the session sends now."""
        request = self.sent()
        assert request["type"] == {"joined": "join"}.get(type_, type_)
        cursor = f"{epoch}-{max(offsets, default=0)}"
        messages = [message(offset, epoch=epoch) for offset in offsets]
        return self.give(type_, id=request["id"], cursor=cursor, recovered=recovered, messages=messages, members=1)

    def refuse(self, code: str, **fields: Any) -> list[Outcome]:
        """Refuse the request that the session sends now."""
        return self.give("error", id=self.sent()["id"], code=code, message="no", **fields)

    def push(self, offset: int, *, epoch: str = "e1") -> list[Outcome]:
        return self.give("message", **message(offset, epoch=epoch))


def offsets(seen: Sequence[Outcome]) -> list[int]:
    return [event.offset for event in seen if isinstance(event, wire.Record)]
