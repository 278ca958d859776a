"""All clients of one persona in a group: what they have in common, and their counters.

Owns: the counters of their lives, and the arrays of what is kept for each of them. May not: touch a socket.
"""

from __future__ import annotations

import socket
from array import array
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from msgspec import field

from loadgen.clients.client import Client, Stage
from loadgen.clients.messages import GroupStatus
from loadgen.clients.traffic import Traffic
from loadgen.net import wire
from loadgen.net.target import PER_ADDRESS, USUAL, Endpoint
from loadgen.net.timers import now

if TYPE_CHECKING:
    from loadgen.clients.engine import Engine

#: A client that has been connecting for longer than this counts as not let in.
STARVED_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the clients of a run have in common: the target's paths, the rooms, and the sources of chance and load."""

    host: str  # for the Host field
    rooms: tuple[str, ...]
    poll_wait_seconds: float
    random: Random  # the only randomness of a persona, so that a run can be replayed
    traffic: Traffic | None = None
    mark: str = "lg"  # what every message of the schedule begins with
    endpoint: Endpoint = USUAL
    first_index: int = 0  # of the group's clients
    per_address: int = PER_ADDRESS  # clients of the group behind one source address

    @property
    def path(self) -> str:
        return self.endpoint.path

    def post_path(self, room: str) -> str:
        """The path of requests with a body: that of --request 'POST /path', or a chat's."""
        return self.endpoint.post_path or f"/rooms/{room}/messages"

    def request(self, method: str, path: str, *fields: str) -> bytes:
        """Encode a request, with the fields of --header that are not among its own."""
        own = {field.partition(":")[0].lower() for field in fields}
        more = [field for field in self.endpoint.fields if field.partition(":")[0].lower() not in own]
        return wire.request(method, path, self.host, *more, *fields)

    @property
    def websocket_path(self) -> str:
        return self.endpoint.websocket_path


class Cohort(GroupStatus, kw_only=True, eq=False):
    kind: type[Client]
    engine: Engine
    place: Place
    first_index: int = 0  # of its clients
    clients: list[Client] = field(default_factory=list)  # those that have been made
    final: GroupStatus | None = None  # how it stood when we closed it
    over: bool = False  # closed by us for good: no client returns
    columns: dict[str, array[Any]] = field(default_factory=dict)  # attributes of the clients, see `column`
    options: list[tuple[int, int, int]] = field(default_factory=list)  # of the clients' sockets
    planned_ends: dict[int, list[float]] = field(default_factory=dict)  # the last of the clients that met any

    def __post_init__(self) -> None:
        declared = self.kind.columns.items()
        self.columns = {name: array(code, (first,)) * self.wanted for name, (code, first, _) in declared}
        sizes = (
            (socket.SOL_SOCKET, socket.SO_RCVBUF, self.kind.receive_buffer_bytes),
            (socket.SOL_SOCKET, socket.SO_SNDBUF, self.kind.send_buffer_bytes),
            (socket.IPPROTO_TCP, socket.TCP_MAXSEG, self.kind.segment_bytes),
        )
        self.options = [option for option in sizes if option[-1]]

    def make(self, upto: int) -> list[Client]:
        """Make clients until there are `upto`, and return the new ones."""
        new = [self.kind(self, self.first_index + number) for number in range(len(self.clients), upto)]
        self.clients += new
        self.due = len(self.clients)
        return new

    def status(self, without: Collection[str] = ()) -> GroupStatus:
        names = [name for name in GroupStatus.__struct_fields__ if name not in without]
        return GroupStatus(**{name: deepcopy(getattr(self, name)) for name in names})

    def result(self) -> GroupStatus:
        """Its status now, or from before we closed it, since our closing says nothing about the target."""
        waiting, since = (Stage.CONNECTING, Stage.OPENING, Stage.UPGRADED), now() - STARVED_SECONDS
        self.starved = sum(client.stage in waiting and client.born < since for client in self.clients)
        return self.final or self.status()

    def end(self) -> None:
        """Record the status before it is closed."""
        self.final = self.result()
        self.clients.clear()

    def count_held(self, client: Client, moment: float) -> None:
        self.held += 1
        self.opened += 1
        self.count_coming(client)
        self.peak = max(self.peak, self.held)
        if client.honest:
            self.handshakes.record(moment - client.born)

    def count_coming(self, client: Client) -> None:
        self.came += not client.has_come
        client.has_come = 1

    def count_end(self, client: Client, reason: str, *, turned_away: bool) -> None:
        """Book that the server, or the network, ended this client."""
        if turned_away and reason.startswith("answered"):
            self.count_coming(client)
        if turned_away and (client.stage is not Stage.HELD or not client.honest):
            self.refused[reason] += 1
        elif client.stage is Stage.HELD:
            self.ended[reason] += 1
            self.lifetime.record(now() - client.born)
        else:
            self.failed[reason] += 1
