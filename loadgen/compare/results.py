"""The results of a comparison, and their tables.

Owns: the samples by scenario, server and round, and the arithmetic of a cell: median, minimum, maximum, and the ratio
to ours *within the same round*, because disturbances of the machine in one round affect all servers. May not: measure.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from loadgen import format as fmt
from loadgen.compare.catalogue import OURS, Peer
from loadgen.compare.scenario import Column, Layout, Sample, Scenario
from loadgen.figures import TIMES
from loadgen.report import Table

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
        """Each failure in one line, without repeats."""
        lines = [f"{peer}: {entry.failure}" for peer, entry in self._entries() if entry.failure]
        return list(dict.fromkeys(lines))

    @property
    def measured(self) -> bool:
        return any(entry.sound for _, entry in self._entries())

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
            told = withheld or (f"in one round {entry.failure}" if entry.failure else "")
            if told and any(other.sound for other in self._of(peer)):
                remarks.setdefault(peer, []).append(told)
        return [f"{peer}*: {'; '.join(dict.fromkeys(told))}" for peer, told in remarks.items()]
