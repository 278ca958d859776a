"""Who gives up a place when all are taken.

Owns: the order of the worst, and the look at the table that finds them. May not: keep anything for a connection, add a
step to the life of one, or end a member: a WebSocket, an event stream, a held poll, or whoever waits for our answer.

    eviction.make_room("192.0.2.7")      the worst is gone, or False: then the newcomer is refused

The rules:
1. First who has had its answer and only lingers, then who has not finished asking, then who is idle, who sends a body,
   and last who does not take its answer (`Kind`).
2. Of one kind, by time waited times crowd. A crowd is how many of its network (an address, an IPv6 /64) wait in this
   way. A person waits alone; an attack that comes from few addresses waits in crowds, however quickly it comes back.
   Of those alike, whoever has sent least.
3. Nobody whose time times crowd is below `evict_after`: he may be about to finish. A lost packet alone takes a second.
   A crowd of twenty heads from one address, all unfinished in the same tenth of a second, has no such claim.
4. Nobody is pushed out by a larger crowd than his own: when attackers that come back have taken each other's places,
   the last ones left would be the honest slow ones. By a crowd as large, mostly his own, only after `evict_after` by
   himself, and only while half of those who could go are left. Otherwise attackers replace each other as fast as
   they can, and an honest newcomer finds nobody who has not only just come.

Thousands of machines that send one slow head each cannot be told from as many honest slow people. There the oldest
goes; a newcomer gets in as soon as one has waited for `evict_after`, and hurt is who needs longer to ask than the
attack takes to come round.

Cost: a look at the table when a newcomer finds no place and nobody is left of those found in this tick. It takes 2 ms
for `SIGHT` candidates, of which each may go; how much is looked at in a tick is bounded (`GLANCE`), so that a table of
members only costs its 1 ms once. A candidate that has moved on since is passed over.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from chatserver.net.admission import network_of
from chatserver.net.connection import Connection
from chatserver.net.connections import Connections, Finality
from chatserver.net.phases import Phase, PhaseLimits
from chatserver.net.wheel import ticks
from chatserver.reasons import Reason

#: Candidates that are enough for one look. Where more wait, any part of them will do.
SIGHT = 1024
#: Places of the table looked at before the candidates are counted.
STRIDE = 1024
#: Places looked at in one tick after which no other look is begun in it: a small table is looked at again and again
#: while peers come and go by the millisecond, a large one once.
GLANCE = 8192


class Kind(IntEnum):
    """What somebody without a claim to its place waits for; the first kind goes first."""

    #: the peer's end of the close: it has its answer, and stays so that it can read it in peace
    LINGERING = 0
    #: the end of a PROXY header, of a TLS handshake or of a request head
    ASKING = 1
    #: the next request, if there is one, or its turn to make it
    IDLE = 2
    #: the rest of a body
    SENDING = 3
    #: the peer to take an answer that is its own. Members that are behind are left to `FLUSH`
    TAKING = 4


_KINDS: dict[Phase, Kind] = {
    Phase.CLOSING: Kind.LINGERING,
    Phase.PROXY: Kind.ASKING,
    Phase.TLS: Kind.ASKING,
    Phase.HEAD: Kind.ASKING,
    Phase.KEEPALIVE: Kind.IDLE,
    Phase.PACED: Kind.IDLE,
    Phase.BODY: Kind.SENDING,
}
_KIND_OF: tuple[Kind | None, ...] = tuple(_KINDS.get(phase) for phase in Phase)
#: Those in which an HTTP answer makes sense to a peer that has sent something.
_SPEAKING = frozenset((Phase.HEAD, Phase.KEEPALIVE, Phase.PACED))


def kind_of(connection: Connection) -> Kind | None:
    """What it waits for; None for whoever may stay."""
    kind = _KIND_OF[connection.phase]
    backlog = connection.backlog
    if backlog is None:
        return kind
    return Kind.TAKING if kind is not None or backlog.last is not None else None


class Waits:
    """How long somebody has waited: its deadline less the span of its phase. So nothing is stored for it."""

    def __init__(self, limits: PhaseLimits) -> None:
        self._spans = tuple(ticks(seconds) for seconds in limits.seconds())
        self._window = ticks(limits.flush_window)

    def waited(self, connection: Connection, kind: Kind, tick: int) -> int:
        """Ticks it has seen. What a body earned by progress, or a reader by taking our bytes, is taken off."""
        span = self._window if kind is Kind.TAKING else self._spans[connection.phase]
        seen = tick + 2 - (connection.deadline - span)  # a deadline is a tick more than the span, see `Wheel.due`
        return max(seen, 1) if kind is Kind.IDLE else seen  # deadlines at rest are put off by up to a second


@dataclass(frozen=True, slots=True)
class Candidate:
    """One who may go, as it was when it was looked at."""

    connection: Connection
    kind: Kind
    deadline: int
    waited: int
    crowd: int

    @property
    def stands(self) -> bool:
        """Whether it still waits for the same thing, and has come no further."""
        connection = self.connection
        return connection.alive and connection.deadline == self.deadline and kind_of(connection) is self.kind


@dataclass(frozen=True, slots=True)
class Ranking:
    """What a look found: candidates with the worst at the end, and how many of each network wait in each way."""

    candidates: list[Candidate]
    crowds: dict[Kind, Counter[str]]


def rank(waiting: Iterable[Connection], waits: Waits, *, tick: int, after: int) -> Ranking:
    """Rules 1 to 3. `after` is the least product of ticks waited and crowd; whoever is of no kind is left out."""
    by_kind: dict[Kind, list[Connection]] = {}
    for connection in waiting:
        kind = kind_of(connection)
        if kind is not None:
            by_kind.setdefault(kind, []).append(connection)
    candidates: list[Candidate] = []
    crowds = {}
    for kind in sorted(by_kind, reverse=True):
        networks = [network_of(connection.address) for connection in by_kind[kind]]
        crowds[kind] = crowd = Counter(networks)
        scored = []
        for connection, network in zip(by_kind[kind], networks, strict=True):
            waited = waits.waited(connection, kind, tick)
            score = waited * crowd[network]
            if score >= after:
                candidate = Candidate(connection, kind, connection.deadline, waited, crowd[network])
                scored.append((score, -len(connection.inbox), candidate))
        scored.sort(key=_badness)
        candidates += [candidate for *_, candidate in scored]
    return Ranking(candidates, crowds)


def _badness(scored: tuple[int, int, Candidate]) -> tuple[int, int]:
    return scored[:2]


class Eviction:
    """Makes room in a table that is full."""

    def __init__(
        self, connections: Connections, limits: PhaseLimits, *, after: float, farewells: Sequence[bytes]
    ) -> None:
        self._connections = connections
        self._waits = Waits(limits)
        self._after = ticks(after)
        self._farewells = farewells  # whole answers, for who had begun to ask
        self._ranking = Ranking([], {})
        self._found = 0  # candidates at the last look
        self._looked = -1  # its tick
        self._seen = 0  # places looked at in that tick
        self._hand = 0  # where in the table the next one begins
        self.turned_away = 0  # newcomers for whom nobody had to go

    def make_room(self, address: str | None) -> bool:
        """End the worst for a newcomer from this address, if it is known; False if nobody has to go for that one."""
        candidate = self._worst()
        if candidate is None or not self._may_take(address, candidate):
            self.turned_away += 1
            return False
        self._ranking.candidates.pop()
        self._end(candidate.connection)
        return True

    def forget(self) -> None:
        """Places are not short any more: let go of those who were looked at."""
        self._ranking = Ranking([], {})

    def _may_take(self, address: str | None, candidate: Candidate) -> bool:
        """Rule 4."""
        if address is None:
            return True
        behind = self._ranking.crowds[candidate.kind][network_of(address)]
        if behind != candidate.crowd:
            return behind < candidate.crowd
        return candidate.waited >= self._after and len(self._ranking.candidates) * 2 > self._found

    def _worst(self) -> Candidate | None:
        tick = self._connections.wheel.current
        if tick != self._looked:
            self._looked, self._seen = tick, 0
            self.forget()
        candidate = self._standing()
        if candidate is None and self._seen < GLANCE:
            self._ranking = rank(self._look(), self._waits, tick=tick, after=self._after)
            self._found = len(self._ranking.candidates)
            candidate = self._standing()
        return candidate

    def _standing(self) -> Candidate | None:
        candidates = self._ranking.candidates
        while candidates and not candidates[-1].stands:
            candidates.pop()
        return candidates[-1] if candidates else None

    def _look(self) -> list[Connection]:
        """Up to about `SIGHT` of those who wait, from where the last look ended; the whole table if there are few."""
        table = self._connections.table
        found: list[Connection] = []
        for _ in range(0, len(table), STRIDE):
            if self._hand >= len(table):
                self._hand = 0
            places = table[self._hand : self._hand + STRIDE]
            self._hand += STRIDE
            self._seen += len(places)
            found += [each for each in places if each is not None and kind_of(each) is not None]
            if len(found) >= SIGHT:
                break
        return found

    def _end(self, connection: Connection) -> None:
        connections = self._connections
        try:
            if connection.phase is Phase.CLOSING:
                connections.closing_expired(connection)
                return
            if connection.phase is Phase.BODY or (connection.inbox and connection.phase in _SPEAKING):
                connections.offer(connection, random.choice(self._farewells))  # noqa: S311  jitter, not secrecy
            # What it did not take is dropped: the kernel would go on offering it, and a place is needed now.
            behind = connection.backlog is not None
            connections.close(connection, Reason.EVICTED, Finality.ABORT if behind else Finality.CLOSE)
        except Exception:  # noqa: BLE001  a fault of ours costs this connection, and not the listener
            connections.fault(connection)
