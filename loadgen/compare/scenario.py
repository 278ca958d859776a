"""What a scenario is: its tables, its sizes, and which servers take part.

Owns: these types. May not: know any scenario, see loadgen/compare/scenarios.py.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from loadgen.compare.catalogue import Can, Peer
from loadgen.compare.measure import Meter

#: The values of one measurement by column: figures of its report, and values computed from them.
Sample = Mapping[str, float | None]

#: A new process has free space of a megabyte or two in its heap, which the first clients fill without growth. Fewer
#: clients of a few hundred bytes each would not show, and ratios to them would mean nothing.
LEAST_CROWD: Final = 6_000


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    title: str
    compared: bool = False  # whether a ratio to ours is meaningful


@dataclass(frozen=True, kw_only=True)
class Layout:
    title: str
    columns: Sequence[Column]
    note: str


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of clients, and durations."""

    crowd: int = 10_000  # idle WebSockets, held polls; never scaled below LEAST_CROWD
    beside: int = 15_000  # idle and slow connections beside a throughput
    attackers: int = 8_000
    members: int = 1_000  # of the room of the fan-out
    publishers: int = 600  # of the throughput
    victims: int = 50
    idle_seconds: float = 10.0  # long enough for one ping on each connection
    busy_seconds: float = 3.0
    attack_seconds: float = 12.0  # longer than most deadlines (10 s)

    def __str__(self) -> str:
        return (
            f"{self.crowd:,} idle, {self.publishers:,} publishers with {self.beside:,} beside them, a room of"
            f" {self.members:,}, {self.attackers:,} attackers with {self.victims:,} victims; pings every"
            f" {self.idle_seconds:g} s, attacks of {self.attack_seconds:g} s"
        )

    def scaled(self, scale: float, clients: int | None) -> "Sizes":
        """Return a share of the full sizes; `clients` replaces the number of every crowd."""

        def crowd(full: int) -> int:
            return max(round(full * scale), 2) if clients is None else clients

        def room(full: int, least: int) -> int:
            return max(round(full * scale), least) if clients is None else min(full, clients)

        return replace(
            self,
            crowd=max(crowd(self.crowd), LEAST_CROWD) if clients is None else clients,
            beside=crowd(self.beside),
            attackers=crowd(self.attackers),
            members=room(self.members, 2),
            publishers=room(self.publishers, self.publishers),
            victims=self.victims if clients is None else min(self.victims, clients),
        )


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is played, and its tables, which have a row for each server that takes part."""

    name: str
    layouts: Sequence[Layout]
    play: Callable[[Meter, Peer, Sizes], Awaitable[Sample]]
    needs: Can
    seconds: float  # estimated duration for each server, shown to the user

    @property
    def group(self) -> str:
        """The name that --only takes."""
        return self.name.partition("-")[0]

    def takes(self, peer: Peer) -> bool:
        return self.needs in peer.can and (not peer.groups or self.group in peer.groups)
