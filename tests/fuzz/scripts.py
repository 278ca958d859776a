"""The script of a random peer, decided in advance: the same seed and number give the same script.

Owns: the moves, and how likely they are. May not: do them; `sockets` does, and when the bytes arrive depends on the
kernel and the machine. What is sent are exchanges of `grammar`, mixed, damaged and cut.
"""

from dataclasses import dataclass
from itertools import pairwise
from random import Random
from typing import Any, TypeAlias

from tests.fuzz.grammar import (
    BYTES_OF_NOTE,
    FRAMES,
    RIGHT_FRAMES,
    RIGHT_REQUESTS,
    ROOMS,
    WRONG_FRAMES,
    WRONG_REQUESTS,
    Edit,
    publish,
    spoil,
)
from tests.support.peers import upgrade

#: Seconds: most pauses are zero, some nearly reach a deadline of the server, a few pass it.
PAUSES = (0.0,) * 12 + (0.001, 0.01, 0.05, 0.3, 1.5)
#: Seconds for which a peer receives, at the end or in between.
EARS = (0.0, 0.05, 0.2, 1.0, 3.0)
#: Bytes that a peer receives at a time; after a small piece it pauses, so that it is slow and not busy.
SIPS, LITTLE, SWALLOW = (100, 1_000, 65_536), 1_000, 0.01
#: Seconds for which one in fifty does nothing at the end, and receives nothing: longer than all deadlines but drain's.
STAY, STAYS = 10.0, 0.02
#: Bytes of a receive buffer; 0 is the system's own.
WINDOWS = (0, 0, 0, 2304, 8192)


Move: TypeAlias = tuple[str, Any]
"""`say` these bytes, or `scrawl` them below TLS; `pause` for seconds; `hear` for seconds, so many bytes at a time, or
until the server ends it; `end` with FIN; `reset` with RST."""
#: The two ends.
END, RESET = ("end", None), ("reset", None)


@dataclass(frozen=True)
class Script:
    """One peer, which closes its connection after all moves."""

    source: str
    window: int
    handshake: bool  # under TLS: properly, or only with what `moves` say
    moves: tuple[Move, ...]


def script(seed: int, number: int) -> Script:
    rng = Random(f"{seed} {number}")
    # Most peers come from one address.
    source = rng.choice(("127.0.1.1", "127.0.1.1", f"127.0.1.{rng.randrange(2, 5)}", f"127.0.2.{rng.randrange(1, 30)}"))
    return Script(source, rng.choice(WINDOWS), rng.random() < 0.8, tuple(_moves(rng)))


def _moves(rng: Random) -> list[Move]:
    moves: list[Move] = []
    for wire in rng.choice((_silent, _asks, _asks, _chats, _chats, _chats, _pumps, _pumps, _babbles))(rng):
        for piece in _cut(rng, wire):
            moves += [("say", piece), *_pause(rng)]
        if rng.random() < 0.3:
            moves.append(("hear", (rng.choice(EARS), rng.choice(SIPS))))
        if rng.random() < 0.02:
            moves.append(("scrawl", rng.randbytes(rng.randrange(1, 60))))
    return moves + _ending(rng)


def _silent(rng: Random) -> list[bytes]:
    return []


def _asks(rng: Random) -> list[bytes]:
    return [_spoil(rng, _choose(rng, RIGHT_REQUESTS, WRONG_REQUESTS)) for _ in range(rng.randrange(1, 5))]


def _chats(rng: Random) -> list[bytes]:
    said = [_choose(rng, RIGHT_FRAMES, WRONG_FRAMES) for _ in range(rng.randrange(12))]
    joins = [FRAMES[rng.choice(("join lobby", "join all", "join lobby from the beginning"))]]
    if rng.random() < 0.3:
        return [b"".join((upgrade(), *joins, *said))]
    return [_spoil(rng, upgrade(), 0.05), *joins, *(_spoil(rng, wire, 0.1) for wire in said)]


def _pumps(rng: Random) -> list[bytes]:
    """More publishes than a room's members are told of at once."""
    room = rng.choice(ROOMS)
    frames = rng.random() < 0.6
    said = publish(room, frames=frames) * rng.choice((5, 40, 100))
    return [upgrade() + FRAMES["join all"] + said if frames else said]


def _babbles(rng: Random) -> list[bytes]:
    return [rng.randbytes(rng.choice((1, 5, 100, 5000))) for _ in range(rng.randrange(1, 4))]


def _choose(rng: Random, right: dict[str, bytes], wrong: dict[str, bytes]) -> bytes:
    """A sample, more often a right one: a wrong one ends the connection."""
    return rng.choice(list((right if rng.random() < 0.7 else wrong).values()))


def _spoil(rng: Random, wire: bytes, likely: float = 0.4) -> bytes:
    edits: list[Edit] = []
    while rng.random() < likely:
        added = rng.choice((*BYTES_OF_NOTE, b"", rng.randbytes(1)))
        edits.append((rng.randrange(len(wire) + 1), rng.randrange(4), added))
    return spoil(wire, edits)


def _cut(rng: Random, wire: bytes) -> list[bytes]:
    """Usually one piece; else a few, or the first bytes one by one."""
    kind = rng.random()
    if kind < 0.6:
        return [wire]
    if kind < 0.9:
        edges = sorted({0, len(wire), *(rng.randrange(len(wire) + 1) for _ in range(rng.randrange(1, 4)))})
        return [wire[start:end] for start, end in pairwise(edges)]
    drip = rng.randrange(1, 40)
    return [*(wire[at : at + 1] for at in range(min(drip, len(wire)))), wire[drip:]]


def _pause(rng: Random) -> list[Move]:
    seconds = rng.choice(PAUSES)
    return [("pause", seconds)] if seconds else []


def _ending(rng: Random) -> list[Move]:
    if rng.random() < STAYS:
        return [("pause", STAY)]
    hear: Move = "hear", (rng.choice(EARS), rng.choice((*SIPS, SIPS[-1])))
    endings: tuple[list[Move], ...] = (
        [hear], [hear], [RESET], [hear, RESET], [END, hear], [END], [("pause", rng.choice(EARS))], [],
    )  # fmt: skip
    return rng.choice(endings)
