"""What may be wrong with a planted server, which of its peers are the attack, and a process for it to be in."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, Final

import h11
import wsproto
from wsproto import events

from tests.support.forking import Forked, fork

ROOT = Path(__file__).parents[2]

#: A newcomer says one thing and goes; a member that has said as much stays.
_ESTABLISHED_AFTER_TEXTS = 3

#: The addresses of a crowd's clients. Victims, newcomers and honest slow clients have addresses behind these, and
#: everything that is no load comes from 127.0.0.1.
CROWD: Final = IPv4Network("127.16.0.0/23")


def is_crowd(address: str) -> bool:
    """Whether a connection from this address is one of the crowd's: of an attack's, while there are no neighbours."""
    return ip_address(address) in CROWD


@dataclass(kw_only=True)
class Plant:
    """What is wrong with the server; by default only that it has no deadlines."""

    head_deadline: float | None = None  # close connections that are not a WebSocket, held or answered by then
    says_408: bool = False  # ... with an answer
    delay: float = 0.0  # before a publish is acknowledged and told
    drop_every: int = 0  # acknowledge every n-th publish and deliver it to no member
    close_members_after: float | None = None  # throw members out that did not go on from a cursor, ...
    closes_with: int = 0  # ... with this close code
    resumes_late: float = 0.0  # let a member that goes on from a cursor in so much later
    skips: int = 0  # leave out so many of the messages that it has missed
    refuse: bool = False  # answer everything 503
    close_after_poll: bool = False  # answer polls with `Connection: close`
    leak_bytes: int = 0  # per connection of the crowd, kept for ever; what newcomers leak is no growth but the baseline
    consent: bytes | None = None
    page: int = 200  # the status of `GET /`
    stalls_every: float | None = None  # sleep for `stall` again and again
    send_buffer: int = 0  # SO_SNDBUF; a peer whose buffer is full is thrown out
    stall: float = 0.0  # sleep that long, and hold up all clients, ...
    stall_on_text: str | None = None  # ... when the first published text has this in it
    keeps_closed: float = 0.0  # s, the descriptor of each connection that has ended
    accepts_every: float = 0.0  # take so long for each connection of the crowd, ...
    backlog: int = 4096  # ... of which so many may wait
    deaf_every: int = 0  # tell every n-th message to its author only
    repeats_every: int = 0  # tell all but its author the message before once more, instead of every n-th
    mislabels: bool = False  # tell all but its author each message as one of another room
    reverses: float = 0.0  # tell so much later the message that came last, of those that are not told yet
    acknowledges_twice: bool = False
    one_offset: int = 0  # of each message, and of its receipt
    echo_delay: float = 0.0  # acknowledge at once, and tell so much later
    others_later: float = 0.0  # tell all but its author so much later
    per_address: int = 0  # close on clients from an address that has so many
    unanswered_room: str = ""  # never answer its joins
    takes_anything: bool = False  # answer malformed requests 200
    refuses_pipelined: bool = False  # answer 400 to what was sent behind a request
    dies_of: str = ""  # end the process at a request that has this in it

    knows: tuple[str, ...] = ("publish", "edit")  # answer any other message with an error
    loses_edits: bool = False  # acknowledge them, and tell nobody

    # from the attack's first connection on, for ever
    locks_out: bool = False  # cut all connections, and close each that comes afterwards
    knows_its_own: bool = False  # close on clients from addresses that it has not seen before
    forgets: str = ""  # have half of what was acknowledged in rooms of such a name no more in the history
    starts_anew: bool = False  # have nothing of it, and say so (`recovered` is false)
    cannot_read: int = 0  # answer this for it
    reads_late: float = 0.0  # answer for it so much later
    leaks_descriptors: bool = False  # one for each attacker
    keeps_descriptors: float = 0.0  # s, one for each attacker from when it comes
    one_waits: float = 0.0  # let one established member wait so long for its acknowledgements
    fails_one: bool = False  # answer one message of an established member with an error, a moment later

    # while an attacker is connected
    acknowledges_nothing: bool = False  # ... and tell messages to the members as ever
    tells_everybody: bool = False  # tell each message to the members of all rooms, and not of which room it is
    only_websockets: bool = False  # close on all others that ask for messages or events for the first time
    no_newcomers: bool = False  # serve established clients and attackers, close on all others that connect

    slow_afterwards: float = 0.0  # when the last attacker has gone, be so late


@dataclass(eq=False)
class Peer:
    sock: socket.socket
    data: bytes = b""
    text: str = ""  # what has come of a message that is not complete
    ws: wsproto.connection.Connection | None = None
    has_asked: bool = False
    echoes: bool = False
    room: str = ""
    address: str = ""
    published: int = 0
    told_at: float = 0.0  # when its latest message is acknowledged and told

    def take_request(self) -> tuple[h11.Request, bytes] | None:
        """The request that has come and its body, once that is whole."""
        parser, body = h11.Connection(h11.SERVER), b""
        parser.receive_data(self.data)
        request = parser.next_event()
        while isinstance(event := parser.next_event(), h11.Data):
            body += event.data
        assert isinstance(request, h11.Request)
        if event is h11.NEED_DATA:
            return None
        self.data = parser.trailing_data[0]
        return request, body

    @property
    def is_established(self) -> bool:
        return self.published > _ESTABLISHED_AFTER_TEXTS


def json_frame(message: object) -> bytes:
    return text_frame(json.dumps(message))


def text_frame(text: str) -> bytes:
    """A server's frame of a message, which is the same for all peers, as no extension is in use."""
    return wsproto.connection.Connection(wsproto.ConnectionType.SERVER).send(events.TextMessage(text))


@contextmanager
def in_process(module: str, *arguments: str, fault: Any, watched: bool = False) -> Iterator[tuple[str, int]]:
    """Serve in a process of its own; its URL and pid. One that is watched shares no memory with ours."""
    told, its_output = os.pipe()
    words = (*arguments, json.dumps(asdict(fault)))
    process: Forked | subprocess.Popen[bytes]
    with os.fdopen(told, encoding="utf-8") as output:
        if watched:
            process = subprocess.Popen([sys.executable, "-m", module, *words], cwd=ROOT, stdout=its_output)
        else:
            process = fork(module, *words, stdin=0, stdout=its_output)
        os.close(its_output)
        try:
            yield output.readline().strip(), process.pid
        finally:
            process.terminate()
            process.wait()
