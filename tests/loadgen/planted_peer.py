"""A connection, as the planted chat knows it."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import wsproto

#: A newcomer says one thing and goes; a member that has said as much stays.
_ESTABLISHED_AFTER_TEXTS = 3


@dataclass(eq=False)
class Peer:
    sock: socket.socket
    data: bytes = b""
    ws: wsproto.connection.Connection | None = None
    has_asked: bool = False
    echoes: bool = False
    room: str = ""
    pongs: int = 0
    address: str = ""
    published: int = 0

    @property
    def is_established(self) -> bool:
        return self.published > _ESTABLISHED_AFTER_TEXTS
