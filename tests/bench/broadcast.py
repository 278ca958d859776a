"""One broadcast to 1,000 idle members: the server's CPU for a delivery against a bare loop of `sock.send`.

How: a paced publisher in a room of 1,000 WebSockets; in turns, a process that only sends the same frame at the same
pace to 1,000 sockets with the same options. CPU is that of the whole process, so ours includes the publish and its
commit; the details tell how much that is, by the same publishes to an empty room.
What would fool it: members that do not read, because then a send wakes nobody; a faster pace, because then one send
carries several frames. Every member must have read every frame before a turn counts.
"""

import time
from collections.abc import Iterator

from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, hear, joins, must_live
from tests.bench.figures import TIMES, Result, Scale, at_most, compared, spread
from tests.bench.processes import Process, chatserver, peer

DELIVERY = at_most("paced broadcast: CPU a delivery, of a bare send loop's", TIMES, bound=1.5, aim=1.15)
ROUNDS = 6
#: Broadcasts a second; each keeps a core busy for about 8 ms.
PACE = 20.0
#: Seconds at the end of a turn in which the last frames are read.
TAIL = 0.2


class Reader:
    """Counts the messages that all members have read, and keeps the frame of the last one."""

    def __init__(self) -> None:
        self.frames = 0
        self.last = b""

    def __call__(self, client: Client, data: bytes) -> None:
        """The data may be several messages, and a ping behind them."""
        must_live(client, data)
        pinged = wire.EMPTY_PING in data  # no text contains its zero byte
        messages = data.count(b'"type":"message"')
        self.frames += messages
        if pinged:
            client.socket.send(wire.EMPTY_PONG)
        elif messages == 1:
            self.last = data


def run(scale: Scale) -> Iterator[Result]:
    members, broadcasts = scale.of(1_000, 50), scale.of(80, 10)
    ours, theirs, publishes = [], [], []
    with chatserver() as server, peer("bare_send") as other:
        reader = Reader()
        with Crowd(server.address) as crowd, Crowd(other.address) as bare:
            crowd.open(members, [HELLO, joins("bench")], reader)
            [publisher] = crowd.open(1, [HELLO], hear)
            bare.open(members, [], None)
            crowd.run(scale.of(4.0, 0.2))
            _ours(server, crowd, reader, publisher, 5, members)
            _theirs(other, bare, reader.last, 5)
            for _ in range(scale.of(ROUNDS, 1)):
                ours.append(_ours(server, crowd, reader, publisher, broadcasts, members))
                publishes.append(_publish(server, crowd, publisher, broadcasts, room="nobody"))
                theirs.append(_theirs(other, bare, reader.last, broadcasts) / broadcasts / members)
    fan_out = [(one - alone / members) / two for one, alone, two in zip(ours, publishes, theirs, strict=True)]
    micro = [[each * 1e6 for each in side] for side in (ours, theirs)]
    more = (
        f"; {len(reader.last)} B frames, {PACE:g}/s to {members:,} members; without what the publish itself costs"
        f" ({spread([each * 1e3 for each in publishes])} ms) {spread(fan_out)}{TIMES}"
    )
    yield compared(DELIVERY, *micro, unit=" µs", more=more)


def _ours(server: Process, crowd: Crowd, reader: Reader, publisher: Client, count: int, members: int) -> float:
    """CPU seconds a delivery."""
    read = reader.frames
    used = _publish(server, crowd, publisher, count, room="bench")
    missing = count * members - (reader.frames - read)
    if missing:
        raise RuntimeError(f"{missing} of {count * members} deliveries were lost")
    return used / members


def _publish(server: Process, crowd: Crowd, publisher: Client, count: int, *, room: str) -> float:
    """CPU seconds for a publish and its deliveries."""
    frame = wire.publish(room, wire.TEXT)
    before, start = server.cpu(), time.perf_counter()
    for index in range(count):
        crowd.run_until(start + index / PACE)
        publisher.socket.send(frame)
    crowd.run_until(start + count / PACE + TAIL)
    return (server.cpu() - before) / count


def _theirs(other: Process, bare: Crowd, frame: bytes, count: int) -> float:
    before, read = other.cpu(), bare.drained
    other.tell(f"pace {count} {PACE} {frame.hex()}")
    bare.run(count / PACE + TAIL)
    other.hear()
    used = other.cpu() - before
    if bare.drained - read != count * len(bare) * len(frame):
        raise RuntimeError("the bare loop's frames did not all arrive")
    return used
