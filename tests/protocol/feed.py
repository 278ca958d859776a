"""One case, with its bytes arriving in every way.

The result of a parser must not depend on the cuts of the stream. `feed` runs a case whole, a byte at a time, in random
cuts, and with other bytes after it, and asserts equal results.

A *runner* replaces the connection: it takes pieces and returns their result with the bytes that it did not consume
(None after an error, since the rest has no meaning then).
"""

from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from chatserver.protocol.body import Body
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import Head, HeadLimits, find_head_end, parse_head
from chatserver.protocol.websocket import Assembly, Close, Event, FrameLimits, Violation, receive
from chatserver.reasons import ErrorCode, Reason
from tests.support.limits import FRAME_LIMITS, HEAD_LIMITS

Outcome = TypeVar("Outcome")
Runner = Callable[[Iterable[bytes]], tuple[Outcome, bytes | None]]

Refused = tuple[ErrorCode, Reason]
"""An HttpError, as far as it may not depend on the cuts: its message may."""

RANDOM_CUTS = 12  # examples a case; there are hundreds of cases, so that Hypothesis would cost more than the parser
MAX_CUTS = 8


def feed(run: Runner[Outcome], wire: bytes, *, trailing: bytes = b"") -> Outcome:
    """The meaning of `wire`, which must not depend on how it is cut; `trailing` must be left alone."""
    outcome, rest = run([wire])
    ended = rest is None
    assert run(wire[at : at + 1] for at in range(len(wire))) == (outcome, rest), "a byte at a time"

    chance = Random(len(wire))
    for _ in range(RANDOM_CUTS):
        at = chance.choices(range(len(wire) + 1), k=chance.randint(1, MAX_CUTS))
        assert run(pieces(wire, at)) == (outcome, rest), f"cut at {at}"
    if trailing:
        assert not rest, "a case that leaves bytes cannot have trailing bytes"
        expected = None if ended else trailing
        assert run([wire + trailing]) == (outcome, expected), "with trailing bytes"
        assert run([wire, trailing]) == (outcome, expected), "with trailing bytes in their own piece"
    return outcome


def cuts(size: int) -> st.SearchStrategy[list[int]]:
    """Places to cut `size` bytes."""
    return st.lists(st.integers(0, size), max_size=MAX_CUTS)


def pieces(wire: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(wire)]
    return [wire[start:end] for start, end in pairwise(edges) if end > start]


def head_runner(limits: HeadLimits = HEAD_LIMITS) -> Runner[Head | Refused | None]:
    """A connection in its HEAD phase; None while the head is incomplete."""

    def run(parts: Iterable[bytes]) -> tuple[Head | Refused | None, bytes | None]:
        buffer = bytearray()
        remaining = iter(parts)
        searched = 0
        for part in remaining:
            buffer += part
            try:
                end = find_head_end(buffer, searched, limits)
                if end:
                    return parse_head(bytes(buffer[:end]), limits), bytes(buffer[end:]) + b"".join(remaining)
            except HttpError as error:
                return (error.code, error.reason), None
            searched = len(buffer)
        return None, b""

    return run


def body_runner(make: Callable[[], Body]) -> Runner[tuple[bool, bytes] | Refused]:
    """A connection in its BODY phase: whether the body is complete, and the body."""

    def run(parts: Iterable[bytes]) -> tuple[tuple[bool, bytes] | Refused, bytes | None]:
        reader = make()
        for part in parts:
            try:
                reader.receive(part)
            except HttpError as error:
                return (error.code, error.reason), None
        assert reader.received == len(reader.body)
        return (reader.complete, reader.body), reader.rest

    return run


Seen = list[Event | Reason]
"""Events, a violation as its reason."""


def take_frames(
    buffer: bytes,
    assembly: Assembly | None = None,
    limits: FrameLimits = FRAME_LIMITS,
) -> tuple[list[Event], bytes, Assembly | None]:
    """All whole frames of these bytes."""
    taken: list[Event] = []
    more = True
    while more:
        events, buffer, assembly, more = receive(buffer, assembly, limits)
        taken += events
    return taken, buffer, assembly


def frame_runner(limits: FrameLimits = FRAME_LIMITS) -> Runner[tuple[Seen, bool]]:
    """An open WebSocket: the events, and whether a message is left unfinished."""

    def run(parts: Iterable[bytes]) -> tuple[tuple[Seen, bool], bytes | None]:
        seen: Seen = []
        rest = b""
        assembly: Assembly | None = None
        for part in parts:
            events, rest, assembly = take_frames(rest + part, assembly, limits)
            for event in events:
                seen.append(event.error.reason if isinstance(event, Violation) else event)
            if events and isinstance(events[-1], Close | Violation):
                assert rest == b""
                assert assembly is None
                return (seen, False), None
        return (seen, assembly is not None), rest

    return run
