"""What a conformance case is, and the shapes that most of them have.

Owns: the declaration. Each case says what is sent, what must be heard, and the state that the connection must then
have: open, failed by the server, closed in order, or never opened. Every frame has a mask that is not zero. May not:
send anything, or judge.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import partial
from typing import Final, NamedTuple

from loadgen.net import wire
from loadgen.net.wire import BINARY, CLOSE, FIN, MORE, PING, TEXT

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
BAD_TEXT: Final = 1007
TOO_BIG: Final = 1009

HELLO: Final = b"Hello, world!"


#: The families of cases: the first part of their numbers, which are Autobahn's.
FAMILIES: Final[Mapping[str, str]] = {
    "0": "opening handshake",
    "1": "frames",
    "2": "pings and pongs",
    "3": "reserved bits",
    "4": "opcodes",
    "5": "fragments",
    "6": "UTF-8",
    "7": "close",
    "9": "long and many messages",
    "10": "fragments of odd size",
    "12": "extensions",
}


class SaidKind(StrEnum):
    TEXT = "text"
    BINARY = "binary"
    PONG = "pong"
    CLOSE = "close"


class Said(NamedTuple):
    kind: SaidKind
    payload: bytes

    def __str__(self) -> str:
        if self.kind is SaidKind.CLOSE:
            return f"close {int.from_bytes(self.payload[:2])}" if self.payload else "close without a code"
        shown = f"{self.payload!r}" if len(self.payload) <= 64 else f"of {len(self.payload):,} bytes"
        return f"{self.kind.value} {shown}"


class End(Enum):
    """The state that the connection must have when everything is sent and heard."""

    OPEN = "open"  # a ping is still answered
    FAILED = "failed"  # the server has ended it: RFC 6455 section 7.1.7
    CLOSED = "closed"  # the server has answered our close frame and ended it: section 7.1.1
    REFUSED = "refused"  # the opening handshake was answered with an error


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How the opening handshake differs from the usual one; its answer is judged, too."""

    changes: tuple[tuple[str, str], ...] = ()  # texts of the usual request, each with its replacement
    fields: tuple[str, ...] = ()  # more header fields
    bytewise: bool = False
    extension: str = ""  # the one that the server may agree to
    subprotocol: str = ""  # the one that it may agree to, and should not


@dataclass(frozen=True, kw_only=True)
class Script:
    sends: Sequence[bytes] = ()  # each is written by itself
    hears: Sequence[Said] = ()  # in this order
    end: End = End.OPEN
    codes: frozenset[int] = frozenset()  # allowed in a close frame, or as the status of a refusal
    then: Sequence[bytes] = ()  # sent once all is heard; after a violation, when a strict server has noticed it
    lenient: bool = False  # the RFC does not require a server to notice
    field: str = ""  # that a refusal must have
    opening: Opening | None = None

    @property
    def sent_bytes(self) -> int:
        return sum(map(len, self.sends)) + sum(map(len, self.then))


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case, with the number of the Autobahn test suite if that has the same case."""

    id: str
    title: str
    section: str  # of RFC 6455, unless it names another
    script: Callable[[], Script] = field(repr=False)  # made when it is played, because some have 16 MiB
    heavy: bool = False  # a megabyte or more: fewer of them are played side by side

    @property
    def family(self) -> str:
        return self.id.partition(".")[0]


#: With the mask of the RFC's own examples (section 5.7).
frame: Final = partial(wire.frame, mask=bytes((0x37, 0xFA, 0x21, 0x3D)))


def text(payload: bytes) -> bytes:
    return frame(FIN | TEXT, payload)


def ping(payload: bytes) -> bytes:
    return frame(FIN | PING, payload)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, (b"" if code is None else code.to_bytes(2)) + reason)


def fragments(opcode: int, *payloads: bytes) -> list[bytes]:
    """Return one message as a frame for each payload."""
    last = len(payloads) - 1
    return [frame((FIN if at == last else 0) | (opcode if at == 0 else MORE), part) for at, part in enumerate(payloads)]


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def echo(payload: bytes, opcode: int = TEXT) -> Said:
    return Said(SaidKind.BINARY if opcode == BINARY else SaidKind.TEXT, payload)


def pong(payload: bytes) -> Said:
    return Said(SaidKind.PONG, payload)


def holds(
    id_: str,
    title: str,
    section: str,
    sends: Sequence[bytes],
    *hears: Said,
    end: End = End.OPEN,
    codes: Iterable[int] = (),
    then: Sequence[bytes] = (),
    lenient: bool = False,
) -> Case:
    """Declare a case; by default the server must accept it and keep the connection open."""
    script = Script(sends=sends, hears=hears, end=end, codes=frozenset(codes), then=then, lenient=lenient)
    return scripted(id_, title, section, script)


#: A case for which the server must fail the connection.
fails: Final = partial(holds, end=End.FAILED, codes=[PROTOCOL_ERROR])

#: A case with a close frame that the server must answer.
closes: Final = partial(holds, end=End.CLOSED, codes=[NORMAL])


def scripted(id_: str, title: str, section: str, script: Script) -> Case:
    return Case(id=id_, title=title, section=section, script=lambda: script)
