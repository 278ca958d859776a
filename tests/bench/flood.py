"""A saturated room of 1,000 members: deliveries for each second of server CPU, against `websockets.broadcast`.

How: publishers keep a window of publishes under way for some seconds; then everything is drained, and the messages
given to members (from /metrics) are divided by the CPU that the server used. In turns, `websockets.broadcast` sends a
text of the same length to as many, as fast as they take it. The client that reads is the same.
What would fool it: deliveries that never arrived, so bytes read are held against deliveries times the length of a
frame; gaps, which must not be counted as deliveries (they are not, and are told in the details).
"""

from collections.abc import Iterator

from tests.bench import wire
from tests.bench.broadcast import TEXT
from tests.bench.clients import Client, Crowd, Step
from tests.bench.figures import TIMES, Better, Figure, Result, Scale, median, spread
from tests.bench.gauges import metrics
from tests.bench.processes import Process, chatserver, peer
from tests.support.peers import upgrade

DELIVERIES = Figure(
    name="saturated room: deliveries a CPU second, of websockets.broadcast's", unit=TIMES, bound=20, aim=40,
    better=Better.HIGHER,
)  # fmt: skip
ROUNDS = 4
PUBLISHERS = 4
#: Publishes that each has under way.
WINDOW = 32
#: Seconds for what was published to be read.
DRAIN = 1.0


class Publisher:
    """Keeps a number of publishes under way on a WebSocket."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self.running = False
        self.acknowledged = 0

    def frames(self, count: int) -> bytes:
        """The next so many."""
        return self._frame * count

    def __call__(self, client: Client, data: bytes) -> None:
        """Acks: as many new publishes."""
        found, client.inbox = wire.frames(client.inbox + data)
        acks = 0
        for start, payload in found:
            if b'"ack"' in payload:
                acks += 1
            elif start == wire.PING:
                client.socket.send(wire.EMPTY_PONG)
        self.acknowledged += acks
        if self.running and acks:
            client.socket.send(self.frames(acks))


def run(scale: Scale) -> Iterator[Result]:
    """Take turns."""
    members, seconds = scale.of(1_000, 50), scale.of(3.0, 0.5)
    ours, theirs, notes = [], [], []
    with (
        chatserver() as server, peer("websockets_broadcast") as other,
        Crowd(server.address) as crowd, Crowd(other.address) as their_crowd,
    ):  # fmt: skip
        hello = Step(upgrade(), b'"hello"')
        crowd.open(members, [hello, Step(wire.join("bench"), b'"joined"')], None)
        publisher = Publisher(wire.publish("bench", TEXT))
        publishers = crowd.open(PUBLISHERS, [hello], publisher)
        their_crowd.open(members, [Step(upgrade(), b"\r\n\r\n")], None)
        crowd.run(scale.of(4.0, 0.2))
        for _ in range(scale.of(ROUNDS, 1)):
            rate, note = _ours(server, crowd, publisher, publishers, seconds)
            ours.append(rate)
            notes.append(note)
            theirs.append(_theirs(other, their_crowd, seconds, members))
    ratios = [one / two for one, two in zip(ours, theirs, strict=True)]
    details = (
        f"{spread([each / 1e6 for each in ours])} M against {spread([each / 1e6 for each in theirs])} M"
        f" ({1e6 / median(ours):.3f} and {1e6 / median(theirs):.2f} µs each); {notes[-1]}"
    )
    yield Result(figure=DELIVERIES, samples=ratios, details=details)


def _ours(
    server: Process, crowd: Crowd, publisher: Publisher, publishers: list[Client], seconds: float
) -> tuple[float, str]:
    before = metrics(server.address)
    cpu, read, acknowledged = server.cpu(), crowd.drained, publisher.acknowledged
    publisher.running = True
    for client in publishers:
        client.socket.send(publisher.frames(WINDOW))
    crowd.run(seconds)
    publisher.running = False
    crowd.run(DRAIN)
    used = server.cpu() - cpu
    after = metrics(server.address)
    delivered = after["chatserver_deliveries_total"] - before["chatserver_deliveries_total"]
    gaps = after["chatserver_gaps_total"] - before["chatserver_gaps_total"]
    length = (crowd.drained - read) / max(delivered, 1)
    if not len(TEXT) < length < len(TEXT) + 250:
        raise RuntimeError(f"{length:.0f} bytes arrived for each delivery that was counted")
    published = publisher.acknowledged - acknowledged
    note = (
        f"{published / seconds:,.0f} publishes/s, {delivered / seconds / 1e6:.2f} M deliveries/s at"
        f" {used / seconds:.0%} CPU, {gaps:.0f} gaps"
    )
    return delivered / used, note


def _theirs(other: Process, crowd: Crowd, seconds: float, members: int) -> float:
    cpu = other.cpu()
    text = "x" * 250  # what a message of ours is long, with its envelope; see the frame in `broadcast`
    other.tell(f"flood {seconds} {text}")
    crowd.run(seconds + DRAIN)
    broadcasts = int(other.hear().split()[1])
    return broadcasts * members / (other.cpu() - cpu)
