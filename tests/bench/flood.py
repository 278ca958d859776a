"""A saturated room of 1,000 members: deliveries for each second of server CPU, against `websockets.broadcast`.

How: publishers keep a window of publishes under way for some seconds; then everything is drained, and the messages
delivered to members (from /metrics) are divided by the CPU that the server used. In turns, `websockets.broadcast` sends
a text of the same length to as many members, as fast as they read. The client that reads is the same.
What would fool it: deliveries that never arrived, so the bytes read are compared with the deliveries; gaps, which are
not counted as deliveries and are told in the details.
"""

from collections.abc import Iterator
from statistics import median

from tests.bench import wire
from tests.bench.clients import HELLO, Client, Crowd, Step, joins
from tests.bench.figures import TIMES, Result, Scale, at_least, compared
from tests.bench.gauges import metrics
from tests.bench.processes import Process, chatserver, peer
from tests.bench.publishers import Publisher
from tests.support.peers import upgrade

DELIVERIES = at_least("saturated room: deliveries a CPU second, of websockets.broadcast's", TIMES, bound=20, aim=40)
ROUNDS = 4
PUBLISHERS = 4
#: Publishes that each publisher has under way.
WINDOW = 32
#: Seconds in which the last messages are read.
DRAIN = 1.0


def run(scale: Scale) -> Iterator[Result]:
    members, seconds = scale.of(1_000, 50), scale.of(3.0, 0.5)
    ours, theirs = [], []  # millions of deliveries
    with (
        chatserver() as server, peer("websockets_broadcast") as other,
        Crowd(server.address) as crowd, Crowd(other.address) as their_crowd,
    ):  # fmt: skip
        crowd.open(members, [HELLO, joins("bench")], None)
        publisher = Publisher(wire.publish("bench", wire.TEXT))
        publishers = crowd.open(PUBLISHERS, [HELLO], publisher)
        their_crowd.open(members, [Step(upgrade(), b"\r\n\r\n")], None)
        crowd.run(scale.of(4.0, 0.2))
        for _ in range(scale.of(ROUNDS, 1)):
            rate, note = _ours(server, crowd, publisher, publishers, seconds)
            ours.append(rate / 1e6)
            theirs.append(_theirs(other, their_crowd, seconds, members) / 1e6)
    more = f" ({1 / median(ours):.3f} and {1 / median(theirs):.2f} µs each); {note}"
    yield compared(DELIVERIES, ours, theirs, unit=" M", more=more)


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
    if not len(wire.TEXT) < length < len(wire.TEXT) + 250:
        raise RuntimeError(f"{length:.0f} bytes arrived for each delivery that was counted")
    published = publisher.acknowledged - acknowledged
    note = (
        f"{published / seconds:,.0f} publishes/s, {delivered / seconds / 1e6:.2f} M deliveries/s at"
        f" {used / seconds:.0%} CPU, {gaps:.0f} gaps"
    )
    return delivered / used, note


def _theirs(other: Process, crowd: Crowd, seconds: float, members: int) -> float:
    cpu = other.cpu()
    text = "x" * 250  # the length of one of our messages with its envelope
    other.tell(f"flood {seconds} {text}")
    crowd.run(seconds + DRAIN)
    broadcasts = int(other.hear().split()[1])
    return broadcasts * members / (other.cpu() - cpu)
