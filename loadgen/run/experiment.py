"""An experiment: groups of clients, phases, and the healthy clients whose operations are judged.

Owns: the one type behind every command and scenario that loads a server, and its presets: honest load (`run`) and an
attack (`attack`, a row of `scorecard`). May not: open a connection.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Annotated, Final

import msgspec

from loadgen.clients.client import Client, Needs
from loadgen.net.target import PER_ADDRESS, Endpoint
from loadgen.personas.honest import Chat
from loadgen.report.figures import ALL, ATTACK, RUN, Figure

#: Names of the groups in the presets.
CROWD: Final = "crowd"
ATTACKERS: Final = "attackers"
BESIDE: Final = "neighbours"

#: Clients of a warm-up: enough to use every code path of the server once, and a small part of the crowd.
WARM_UP_CLIENTS: Final = 100

#: Time for the honest slow clients to connect: a request typed by hand takes 8 s.
NEIGHBOURS_SECONDS: Final = 12.0

#: Honest slow clients of each kind, beside an attack.
NEIGHBOURS: Final = 5

#: Traffic in their room: about 5 KB/s, more than a phone on a 2G network can receive.
NEIGHBOURS_RATE: Final = 5.0
NEIGHBOURS_TEXT_BYTES: Final = 1000

#: The highest message rate of one speaker: servers limit the rate of a user, ours to 20 a second.
EACH_PER_S: Final = 10.0

#: An operation that takes longer has failed.
OPERATION_TIMEOUT_SECONDS: Final = 5.0

#: Newcomers a second: each shows whether the server accepts new clients at that time. With 10, the 99th percentile of
#: an attack of 12 s was the second worst of 120, and two runs of one row gave 25 and 141 ms.
NEWCOMERS_PER_S: Final = 50.0

#: Time for the answers to the last messages.
DRAIN_SECONDS: Final = 5.0

POLL_WAIT_SECONDS: Final = 25.0


Name = Annotated[str, msgspec.Meta(min_length=1)]


class Counts(Enum):
    AS_NAMED = ""  # in a scenario's file: by the phase's name, and as an opening if it has no length
    OPENING = "opening"  # clients connect; it lasts until each of them is established or has failed
    BASELINE = "baseline"  # the other phases are compared with it
    LOAD = "load"  # the phase that is judged
    RECOVERY = "recovery"  # the time after the load, for its after-effects


#: The times around the phases; what is booked in them is of no phase that is judged.
START: Final = "start"
WARM_UP: Final = "warm-up"
DRAIN: Final = "drain"
AROUND: Final = frozenset((START, WARM_UP, DRAIN))

#: Phases in which everything is measured, and what their figures are named after.
MEASURED: Final = {Counts.BASELINE: "baseline", Counts.LOAD: "attack", Counts.RECOVERY: "recovery"}


@dataclass(frozen=True, kw_only=True)
class Group:
    name: str
    counts: Mapping[type[Client], int]
    rooms: tuple[str, ...] = ("lobby",)
    poll_wait_seconds: float = POLL_WAIT_SECONDS
    per_address: int = PER_ADDRESS  # clients behind one source address

    @property
    def size(self) -> int:
        return sum(self.counts.values())

    @property
    def attacks(self) -> bool:
        return any(not persona.honest for persona in self.counts)


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of time, and what happens in it; `[[phases]]` in a scenario's file."""

    name: Name
    counts_as: Counts = Counts.AS_NAMED
    seconds: float = 0.0  # of an opening: the limit, 0 = none
    open: Mapping[str, float] = {}  # share of each group that has connected by its end
    ramp: bool = False  # clients and rate grow evenly over the whole phase; otherwise at once
    rate: float | None = None  # messages a second from now on; None = as before
    text_bytes: int = 0  # least size of each message
    close: tuple[str, ...] = ()  # groups that are closed for good at its end


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Healthy clients in all phases, whose operations are judged."""

    victims: Mapping[str, int]  # by kind, see loadgen/protocols
    newcomers_per_s: float = NEWCOMERS_PER_S
    timeout_seconds: float = OPERATION_TIMEOUT_SECONDS
    path: str | None = None  # what they fetch, if their kind names it ('GET /path')


@dataclass(frozen=True, kw_only=True)
class Experiment:
    command: str
    groups: tuple[Group, ...]
    phases: tuple[Phase, ...]
    probes: Probes | None = None
    longest_cycle: float = math.inf  # seconds; it lasts until each neighbour whose cycle is no longer has ended one
    drain_seconds: float = DRAIN_SECONDS
    compares: bool = True  # whether its load is judged by its baseline

    @property
    def known(self) -> Mapping[str, Figure]:
        if self.probes is None:
            return RUN
        return ALL if self.load else ATTACK

    @property
    def load(self) -> list[Group]:
        """Groups of honest load, which are measured for their own sake."""
        return [group for group in self.groups if group.counts and not group.attacks and group.name != BESIDE]

    @property
    def attackers(self) -> Counter[type[Client]]:
        return sum((Counter(group.counts) for group in self.groups if group.attacks), Counter())

    @property
    def neighbours(self) -> Mapping[type[Client], int]:
        beside = next((group.counts for group in self.groups if group.name == BESIDE), {})
        return {persona: number for persona, number in beside.items() if persona.slow}

    @property
    def victims(self) -> Mapping[str, int]:
        return self.probes.victims if self.probes else {}

    @property
    def speaks(self) -> bool:
        return any(phase.rate for phase in self.phases if phase.counts_as in MEASURED)

    @property
    def echoes(self) -> bool:
        """Whether messages come back to their sender."""
        return any(persona.echoes for group in self.load for persona in group.counts)

    @property
    def is_gathered(self) -> bool:
        """Whether all honest load connects before the first message, so that each message is due to all of it."""
        names = {group.name for group in self.load}
        comes_late = any(names & phase.open.keys() for phase in self.phases if phase.counts_as in MEASURED)
        return self.echoes and not comes_late

    @property
    def requests(self) -> bool:
        """Whether honest load sends plain requests."""
        return any(persona.needs is Needs.HTTP for group in self.load for persona in group.counts)

    def sends(self, endpoint: Endpoint) -> bool:
        """Whether some client sends what --request asks for: load, or attackers that fetch it or post to it."""
        if self.probes is None or self.requests:
            return self.requests
        if endpoint.method == "POST":
            return bool(self.groups)
        return endpoint.method == "GET" and endpoint.path == endpoint.asked

    @property
    def clients(self) -> int:
        return sum(group.size for group in self.groups)

    @property
    def probe_connections(self) -> int:
        """The most connections of victims and newcomers at once; a victim over HTTP has two."""
        if self.probes is None:
            return 0
        waiting = round(self.probes.newcomers_per_s * self.probes.timeout_seconds)
        return 2 * sum(self.probes.victims.values()) + waiting

    def seconds(self, *kinds: Counts) -> float:
        return sum(phase.seconds for phase in self.phases if phase.counts_as in kinds)

    @property
    def cycle_seconds(self) -> float:
        """The longest cycle for which the attack lasts longer, if it must."""
        cycles = (persona.cycle_seconds for persona in self.neighbours)
        return max((cycle for cycle in cycles if cycle <= self.longest_cycle), default=0.0)

    @property
    def expected_seconds(self) -> float:
        """Length of all measured phases: the planned one, or as long as the neighbours need."""
        return max(self.seconds(*MEASURED), self.cycle_seconds)

    @property
    def why_longer(self) -> str:
        """The reason why it takes longer than asked for; empty if it does not."""
        asked, needed = self.seconds(*MEASURED), self.cycle_seconds
        slowest = next((each.name for each in self.neighbours if asked < needed == each.cycle_seconds), "")
        return slowest and (
            f"{asked:g} s were asked for, but {slowest} beside it needs {needed:g} s, so the attack lasts longer;"
            " --fixed-duration leaves out what needs longer"
        )

    def against(self, counts: Mapping[type[Client], int]) -> "Experiment":
        groups = tuple(replace(each, counts=counts) if each.name == ATTACKERS else each for each in self.groups)
        return replace(self, groups=groups)

    def beside(self, neighbours: Mapping[type[Client], int], *, lasting: float = 0.0) -> "Experiment":
        """Return a copy with these neighbours, and the last load phase extended to last as long as they need."""
        groups = [each for each in self.groups if each.name != BESIDE]
        phases = [phase for phase in self.phases if BESIDE not in phase.open]
        if any(persona.needs is Needs.CHAT for persona in neighbours):
            neighbours = {**neighbours, Chat: 1}  # a slow reader needs messages to read
        if neighbours:
            groups.insert(0, Group(name=BESIDE, counts=neighbours))
            phases.insert(0, _arrival())
        missing = lasting - self.seconds(*MEASURED)
        at = max(at for at, phase in enumerate(phases) if phase.counts_as is Counts.LOAD)
        phases[at] = msgspec.structs.replace(phases[at], seconds=phases[at].seconds + max(missing, 0.0))
        return replace(self, groups=tuple(groups), phases=tuple(phases))


def _arrival() -> Phase:
    """The phase in which the neighbours connect, and a speaker begins to send messages to them."""
    return Phase(
        name=WARM_UP,
        counts_as=Counts.OPENING,
        seconds=NEIGHBOURS_SECONDS,
        open={BESIDE: 1.0},
        rate=NEIGHBOURS_RATE,
        text_bytes=NEIGHBOURS_TEXT_BYTES,
    )


def honest_load(
    counts: Mapping[type[Client], int],
    *,
    rooms: tuple[str, ...] = ("lobby",),
    rate: float = 0.0,
    seconds: float,
) -> Experiment:
    """Connect a crowd and hold it steady.

    A few clients open first and stay, so that imports and caches of the target are not charged to the crowd. The rest
    opens in two halves, because the first half fills free space in the heap without any growth.
    """
    clients = sum(counts.values())
    warm = min(WARM_UP_CLIENTS, clients // 10) / clients
    opening = ((WARM_UP, warm), ("opening", (warm + 1) / 2), ("opening, second half", 1.0))
    return Experiment(
        command="run",
        groups=(Group(name=CROWD, counts=counts, rooms=rooms),),
        phases=(
            *(Phase(name=name, counts_as=Counts.OPENING, open={CROWD: share}) for name, share in opening),
            Phase(name="steady", counts_as=Counts.LOAD, seconds=seconds, rate=rate or None),
        ),
    )


def attack(
    *,
    probes: Probes,
    baseline_seconds: float,
    attack_seconds: float,
    recovery_seconds: float,
    longest_cycle: float = math.inf,
    per_address: int = PER_ADDRESS,
) -> Experiment:
    """Baseline, attack, recovery: all three in one run on one machine, so that noise affects all of them.

    It has no attackers yet (`against`), and no neighbours (`beside`).
    """
    return Experiment(
        command="attack",
        groups=(Group(name=ATTACKERS, counts={}, per_address=per_address),),
        phases=(
            Phase(name="baseline", counts_as=Counts.BASELINE, seconds=baseline_seconds),
            Phase(
                name="attack",
                counts_as=Counts.LOAD,
                seconds=attack_seconds,
                open={ATTACKERS: 1.0},
                close=(ATTACKERS,),
            ),
            Phase(name="recovery", counts_as=Counts.RECOVERY, seconds=recovery_seconds),
        ),
        probes=probes,
        longest_cycle=longest_cycle,
    )
