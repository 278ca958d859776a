"""An experiment: which clients come, in which phases, beside which others, and what it is judged by.

Owns: the one shape behind every command that loads a server, and its presets: honest load (`run`) and an attack
(`attack`, a row of `scorecard`). A scenario file is read into the same shape (scenariofile.py), and player.py plays it.
May not: open a connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from loadgen.client import Client, Needs
from loadgen.figures import ALL, ATTACK, RUN, Figure
from loadgen.personas.honest import Chat

#: Names of the groups that the presets have.
CROWD: Final = "crowd"
ATTACKERS: Final = "attackers"
BESIDE: Final = "neighbours"

#: Clients of a warm-up: enough to touch every path, few enough to leave a crowd to measure.
WARM_UP_CLIENTS: Final = 100

#: The honest slow take their time to arrive: a request typed by hand takes 8 s.
NEIGHBOURS_SECONDS: Final = 12.0

#: Of each kind, beside an attack.
NEIGHBOURS: Final = 5

#: What is said in their room: about 5 KB/s, more than a phone on a 2G network can take.
NEIGHBOURS_RATE: Final = 5.0
NEIGHBOURS_TEXT_BYTES: Final = 1000

#: An operation whose message has not come back by then has failed.
OPERATION_TIMEOUT_SECONDS: Final = 5.0

#: Newcomers that come a second: each shows a moment in which the door was open.
NEWCOMERS_PER_S: Final = 10.0

#: How long answers to the last messages may take.
DRAIN_SECONDS: Final = 5.0

POLL_WAIT_SECONDS: Final = 25.0


class Counts(Enum):
    OPENING = "opening"  # clients come; it lasts until each that was to come is established or has failed
    BASELINE = "baseline"  # what the others are compared with
    LOAD = "load"  # what is judged
    RECOVERY = "recovery"  # what is left of it


#: Those in which everything is measured.
MEASURED: Final = (Counts.BASELINE, Counts.LOAD, Counts.RECOVERY)


@dataclass(frozen=True, kw_only=True)
class Group:
    name: str
    counts: Mapping[type[Client], int]
    rooms: tuple[str, ...] = ("lobby",)
    poll_wait_seconds: float = POLL_WAIT_SECONDS

    @property
    def size(self) -> int:
        return sum(self.counts.values())

    @property
    def attacks(self) -> bool:
        return any(not persona.honest for persona in self.counts)


@dataclass(frozen=True, kw_only=True)
class Phase:
    name: str
    counts_as: Counts
    seconds: float = 0.0  # of an opening: at most so many, 0 = no limit
    open: Mapping[str, float] = field(default_factory=dict)  # share of a group that is to have come by its end
    ramp: bool = False  # evenly over the whole phase, the rate as well; otherwise at once
    rate: float | None = None  # messages a second from now on; None = as before
    text_bytes: int = 0  # of each message, at least
    close: tuple[str, ...] = ()  # groups that go for good at its end


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Healthy clients beside it all, whose operations are judged."""

    victims: Mapping[str, int]  # by kind, see loadgen/protocols
    newcomers_per_s: float = NEWCOMERS_PER_S
    timeout_seconds: float = OPERATION_TIMEOUT_SECONDS


@dataclass(frozen=True, kw_only=True)
class Experiment:
    command: str
    groups: tuple[Group, ...]
    phases: tuple[Phase, ...]
    probes: Probes | None = None
    fixed_duration: bool = False  # rather leave neighbours out than play for as long as they need
    drain_seconds: float = DRAIN_SECONDS

    @property
    def known(self) -> Mapping[str, Figure]:
        if self.probes is None:
            return RUN
        return ALL if self.load else ATTACK

    @property
    def load(self) -> list[Group]:
        """Honest load: what is measured for itself."""
        return [group for group in self.groups if not group.attacks and group.name != BESIDE]

    @property
    def attackers(self) -> dict[type[Client], int]:
        """The clients that do harm, in all groups."""
        counts: dict[type[Client], int] = {}
        for group in self.groups:
            if group.attacks:
                counts |= {persona: counts.get(persona, 0) + number for persona, number in group.counts.items()}
        return counts

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
        """Whether what is said comes back to its sender."""
        return any(persona.echoes for group in self.load for persona in group.counts)

    @property
    def is_gathered(self) -> bool:
        """Whether all honest load has come before anything is said, so that each message is for all of it."""
        names = {group.name for group in self.load}
        comes_late = any(names & phase.open.keys() for phase in self.phases if phase.counts_as in MEASURED)
        return self.echoes and not comes_late

    @property
    def connections(self) -> int:
        """Connections at most: a victim over HTTP has two."""
        crowd = sum(group.size for group in self.groups)
        if self.probes is None:
            return crowd
        waiting = round(self.probes.newcomers_per_s * self.probes.timeout_seconds)
        return crowd + 2 * sum(self.probes.victims.values()) + waiting

    def seconds(self, *kinds: Counts) -> float:
        """How long the phases of these kinds are meant to be."""
        return sum(phase.seconds for phase in self.phases if phase.counts_as in kinds)

    @property
    def cycle_seconds(self) -> float:
        """Until each neighbour has done once all that it does; 0 if those that need longer are left out."""
        cycles = (persona.cycle_seconds for persona in self.neighbours)
        return 0.0 if self.fixed_duration else max(cycles, default=0.0)

    @property
    def expected_seconds(self) -> float:
        """How long everything is measured: as asked for, or for as long as the neighbours need."""
        return max(self.seconds(*MEASURED), self.cycle_seconds)

    @property
    def course(self) -> list[tuple[str, float]]:
        """The phases that have a length, for the live view."""
        return [(phase.name, phase.seconds) for phase in self.phases if phase.counts_as in MEASURED]

    def against(self, counts: Mapping[type[Client], int]) -> "Experiment":
        groups = tuple(replace(each, counts=counts) if each.name == ATTACKERS else each for each in self.groups)
        return replace(self, groups=groups)

    def beside(self, neighbours: Mapping[type[Client], int], *, lasting: float = 0.0) -> "Experiment":
        """The same with these neighbours, and the last phase that is judged longer by as much as they need."""
        groups = [each for each in self.groups if each.name != BESIDE]
        phases = list(self.phases)
        if any(persona.needs is Needs.CHAT for persona in neighbours):
            neighbours = {**neighbours, Chat: 1}  # a slow reader in a silent room is none
        if neighbours:
            groups.insert(0, Group(name=BESIDE, counts=neighbours))
        else:
            phases = [phase for phase in phases if BESIDE not in phase.open]
        missing = lasting - self.seconds(*MEASURED)
        at = max(at for at, phase in enumerate(phases) if phase.counts_as is Counts.LOAD)
        phases[at] = replace(phases[at], seconds=phases[at].seconds + max(missing, 0.0))
        return replace(self, groups=tuple(groups), phases=tuple(phases))


def arrival() -> Phase:
    """The neighbours come in, and a chatter begins to talk to them."""
    return Phase(
        name="warm-up",
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
    poll_wait_seconds: float = POLL_WAIT_SECONDS,
    drain_seconds: float = DRAIN_SECONDS,
) -> Experiment:
    """Connect a crowd and hold it steady.

    A first few clients open and stay, so that what the target imports or caches once is not charged to the crowd; the
    rest opens in two halves. A process has holes in its heap from its start, which the first half fills without any
    growth.
    """
    clients = sum(counts.values())
    warm = min(WARM_UP_CLIENTS, clients // 10) / clients
    opening = (("warm-up", warm), ("opening", (warm + 1) / 2), ("opening, second half", 1.0))
    return Experiment(
        command="run",
        groups=(Group(name=CROWD, counts=counts, rooms=rooms, poll_wait_seconds=poll_wait_seconds),),
        phases=(
            *(Phase(name=name, counts_as=Counts.OPENING, open={CROWD: share}) for name, share in opening),
            Phase(name="steady", counts_as=Counts.LOAD, seconds=seconds, rate=rate or None),
        ),
        drain_seconds=drain_seconds,
    )


def attack(
    counts: Mapping[type[Client], int],
    *,
    probes: Probes,
    neighbours: Mapping[type[Client], int],
    baseline_seconds: float,
    attack_seconds: float,
    recovery_seconds: float,
    fixed_duration: bool = False,
) -> Experiment:
    """Baseline, attack, recovery: all three from one run on one machine, so that noise is in all of them."""
    return Experiment(
        command="attack",
        groups=(Group(name=ATTACKERS, counts=counts),),
        phases=(
            *((arrival(),) if neighbours else ()),
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
        fixed_duration=fixed_duration,
    ).beside(neighbours)
