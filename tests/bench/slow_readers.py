"""Members that never read, in rooms with heavy traffic: what they cost the server, and what the others hear.

How: 2,500 WebSockets in five rooms join with a receive buffer of 4 KiB and are never read again; ten members of each
room read everything. A message of 16 KB, as long as one can be, goes to each room about once a second, for a minute:
long enough for `FLUSH` to judge them. Pss of the server and the kernel's TCP memory are read every second.
What would fool it: readers that are not behind, so the details have their flush-deadlines; a kernel that buffers
everything, so receive buffers are small. The growth includes the rooms' rings, which are full at the end in any case.
TCP memory is that of both ends.
"""

import time
from collections.abc import Iterator

from tests.bench import wire
from tests.bench.clients import Client, Crowd, Step, hear
from tests.bench.figures import Better, Figure, Result, Scale
from tests.bench.gauges import metrics, tcp_memory
from tests.bench.processes import Process, chatserver
from tests.bench.publishers import Publisher
from tests.support.peers import upgrade

MEMORY = Figure(
    name="2,500 members that never read, 16 KB messages: memory at most", unit=" MB", bound=20, aim=20,
    better=Better.LOWER,
)  # fmt: skip
HEARD = Figure(
    name="healthy members beside them: messages heard", unit="%", bound=100, aim=100, better=Better.HIGHER
)  # fmt: skip
ROOMS = 5
HEALTHY_A_ROOM = 10
RECEIVE_BUFFER = 4096
#: Every character is two bytes on the wire, so that the text is within its limit and the message near its own.
LONG_TEXT = '"' * 8_000
MB = 1e6


class Listener:
    """Counts the messages that healthy members receive."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, client: Client, data: bytes) -> None:
        self.heard += sum(payload.startswith(b'{"type":"message"') for payload in hear(client, data))


def run(scale: Scale) -> Iterator[Result]:
    deaf, seconds = scale.of(2_500, 100), scale.of(60, 3)
    rooms = [f"room-{number}" for number in range(ROOMS)]
    with chatserver() as server, Crowd(server.address) as crowd:
        hello = Step(upgrade(), b'"hello"')
        listener, publisher = Listener(), Publisher(b"")
        for room in rooms:
            join = Step(wire.join(room), b'"joined"')
            crowd.open(HEALTHY_A_ROOM, [hello, join], listener)
            crowd.deafen(crowd.open(deaf // ROOMS, [hello, join], None, receive_buffer=RECEIVE_BUFFER))
        (speaker,) = crowd.open(1, [hello], publisher)
        crowd.run(scale.of(4.0, 0.5))
        peak, kernel, note = _play(server, crowd, publisher, speaker, rooms, seconds)
        expected = publisher.acknowledged * HEALTHY_A_ROOM
        ended = metrics(server.address)['chatserver_closes_total{reason="flush-deadline"}']
    details = (
        f"{note}; kernel TCP buffers of both ends at most {kernel / MB:.0f} MB, {kernel / deaf / 1024:.0f} KiB each;"
        f" {ended:.0f} of {deaf:,} hung up on for flush-deadline"
    )
    yield Result(figure=MEMORY, samples=[peak / MB], details=details)
    heard = f"{listener.heard:,} of {expected:,}: {publisher.acknowledged} messages of {len(LONG_TEXT) * 2:,} B"
    yield Result(figure=HEARD, samples=[listener.heard / expected * 100], details=heard)


def _play(
    server: Process, crowd: Crowd, publisher: Publisher, speaker: Client, rooms: list[str], seconds: int
) -> tuple[int, int, str]:
    """The largest growths of Pss and of TCP memory, and the course of the first."""
    memory, kernel = server.memory(), tcp_memory()
    grown, buffered = [], []
    start = time.perf_counter()
    for second in range(seconds):
        for room in rooms:
            speaker.socket.send(wire.publish(room, LONG_TEXT))
            crowd.run(1 / len(rooms) / 2)
        crowd.run_until(start + second + 1)
        grown.append(server.memory() - memory)
        buffered.append(tcp_memory() - kernel)
    crowd.run(1.0)
    course = ", ".join(f"{grown[at] / MB:.1f}" for at in range(seconds // 4 - 1, seconds, max(seconds // 4, 1)))
    return max(grown), max(buffered), f"after each quarter {course} MB"
