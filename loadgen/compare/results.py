"""What a scenario is, and the results of a comparison with their tables.

Owns: these types; the samples by scenario, server and round, and the arithmetic of a cell: median, minimum, maximum,
and the ratio to ours *within the same round*, because disturbances of the machine in one round affect all servers. May
not: measure, or know any scenario (scenarios.py).
"""

import statistics
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from loadgen.compare.catalogue import OURS, Can, Peer
from loadgen.compare.measure import Meter
from loadgen.report import format as fmt
from loadgen.report.figures import TIMES
from loadgen.report.schema import Table

#: The values of one measurement by column: figures of its report, and values computed from them.
Sample = Mapping[str, float | None]

#: A new process has free space of a megabyte or two in its heap, which the first clients fill without growth. Fewer
#: clients of a few hundred bytes each would not show, and ratios to them would mean nothing.
LEAST_CROWD: Final = 6_000


class Column(NamedTuple):
    name: str
    title: str
    compared: bool = False  # whether a ratio to ours is meaningful


class Layout(NamedTuple):
    title: str
    note: str
    columns: Sequence[Column]


@dataclass(frozen=True, kw_only=True)
class Sizes:
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

    def scaled(self, scale: float) -> "Sizes":
        """Return a share of the full sizes."""
        least = {"crowd": LEAST_CROWD, "beside": 2, "attackers": 2, "members": 2, "publishers": self.publishers}
        return replace(self, **{name: max(round(getattr(self, name) * scale), few) for name, few in least.items()})


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


#: A ratio from fewer rounds is chance, because the machine behaves differently in each.
LEAST_ROUNDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One server in one scenario in one round."""

    sample: Sample = field(default_factory=dict)
    failure: str = ""  # why there is no sample
    doubt: str = ""  # why loadgen calls the measurement invalid, so that its figures are withheld

    @property
    def sound(self) -> Sample:
        """The figures that may be shown."""
        return {} if self.doubt else self.sample


@dataclass(frozen=True)
class Results:
    scenario: Scenario
    base: str = OURS  # the server that the ratios refer to
    rounds: list[dict[str, Entry]] = field(default_factory=list)  # by server

    @property
    def failures(self) -> list[str]:
        """Each failure, and why a server has no figures at all, in one line and without repeats."""
        lines = [f"{peer}: {entry.failure}" for peer, entry in self._entries() if entry.failure]
        lines += [
            f"{peer}: {entry.doubt}" for peer, entry in self._entries() if entry.doubt and peer not in self.measured
        ]
        return list(dict.fromkeys(lines))

    @property
    def measured(self) -> set[str]:
        return {peer for peer, entry in self._entries() if entry.sound}

    def tables(self, peers: Iterable[Peer]) -> list[Table]:
        names = [peer.name for peer in peers if self._of(peer.name)]
        return [self._table(layout, names) for layout in self.scenario.layouts]

    def _table(self, layout: Layout, names: Iterable[str]) -> Table:
        return Table(
            title=layout.title,
            columns=["server", *(column.title for column in layout.columns)],
            rows=[self._row(name, layout.columns) for name in names],
            notes=[layout.note, *self._remarks()],
        )

    def _entries(self) -> list[tuple[str, Entry]]:
        return [found for entries in self.rounds for found in entries.items()]

    def _of(self, peer: str) -> list[Entry]:
        return [entries[peer] for entries in self.rounds if peer in entries]

    def _row(self, peer: str, columns: Sequence[Column]) -> list[str]:
        entries = self._of(peer)
        samples = [entry.sound for entry in entries if entry.sound]
        if not samples:
            why = entries[-1].failure or f"withheld: {entries[-1].doubt}"
            return [peer, why, *([""] * (len(columns) - 1))]
        mark = "*" if any(entry.doubt or entry.failure for entry in entries) else ""
        return [peer + mark, *(self._cell(peer, column, samples) for column in columns)]

    def _cell(self, peer: str, column: Column, samples: Sequence[Sample]) -> str:
        values = [value for sample in samples if (value := sample.get(column.name)) is not None]
        if not values:
            return ""
        text = fmt.number(statistics.median(values))
        if len(values) > 1:
            text += f" ({fmt.number(min(values))}-{fmt.number(max(values))})"
        ratios = self._ratios(peer, column.name) if column.compared and peer != self.base else []
        return f"{text} · {fmt.number(statistics.median(ratios))}{TIMES}" if ratios else text

    def _ratios(self, peer: str, column: str) -> list[float]:
        """The ratio to the base in each round that has both; empty if these are too few."""
        ratios = []
        for entries in self.rounds:
            value, ours = (entries[name].sound.get(column) if name in entries else None for name in (peer, self.base))
            # a small growth of memory may come out as zero or negative
            if value is not None and ours is not None and value > 0 and ours > 0:
                ratios.append(value / ours)
        return ratios if len(ratios) >= LEAST_ROUNDS else []

    def _remarks(self) -> list[str]:
        """The notes on servers with a star, one line each."""
        remarks: dict[str, list[str]] = {}
        for peer, entry in self._entries():
            withheld = f"a round is withheld: {entry.doubt}" if entry.doubt else ""
            remark = withheld or (f"in one round {entry.failure}" if entry.failure else "")
            if remark and any(other.sound for other in self._of(peer)):
                remarks.setdefault(peer, []).append(remark)
        return [f"{peer}*: {'; '.join(dict.fromkeys(texts))}" for peer, texts in remarks.items()]
