"""The figures of an experiment.

Owns: the arithmetic from readings and counters to each figure of figures.py. `player.py` stores its readings here
during the run. May not: wait, judge or touch a socket.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import dropwhile, pairwise
from typing import Final

from loadgen.cases import requests
from loadgen.clients.client import Threat
from loadgen.clients.messages import GroupStatus
from loadgen.report import bar
from loadgen.report.figures import Figures
from loadgen.report.latency import Latency, milliseconds, pooled
from loadgen.report.schema import Outcome, Report, Sample
from loadgen.run.exercise import Standing
from loadgen.run.experiment import BESIDE, MEASURED, Counts, Experiment
from loadgen.run.operations import PHASES, Operations
from loadgen.run.session import Plan, Session
from loadgen.run.span import Reading, Size, Span, bytes_each, grown, joined, per

#: Seconds of an entry of the timeline in which it may be that no operation ended, however good the server is.
_SHORT: Final = 0.5


class Measured:
    def __init__(self, plan: Plan, session: Session, experiment: Experiment, floor: Report | None) -> None:
        self.experiment = experiment
        self.spans: list[Span] = []
        self.memory: dict[str, list[Size]] = {}  # of the server, by phase
        self.descriptors_before: int | None = None
        self.descriptors_after: int | None = None
        self.round_trip_seconds = 0.0  # of a GET on the network alone, connect included
        self.down = ""  # the evidence that the server serves nobody any more
        self.left_out: list[str] = []  # parts that were not played, with the reason
        self.attacker_addresses = 1
        self.attacker_seconds = 0.0
        self.standing = Standing()
        self.plan = plan
        self.session = session
        self.floor = floor  # of the same victims and the same attack at the floor (scorecard.py)

    @property
    def floor_fault(self) -> str:
        """Why there is nothing to compare with at the floor, if it was played."""
        failed = (Outcome.INVALID, Outcome.FELL_SHORT)  # it has no bar, so it only falls short if it serves nobody
        return self.floor.verdict.reasons[0] if self.floor and self.floor.outcome in failed else ""

    @property
    def at_floor(self) -> Figures:
        """The figures of the floor; empty if it was not played, or gave none."""
        return self.floor.figures if self.floor and not self.floor_fault else {}

    @property
    def operations(self) -> Operations:
        phases = self.experiment.phases
        named = {phase.name: MEASURED[phase.counts_as] for phase in phases if phase.counts_as in MEASURED}
        return Operations(self.session.totals.phases, named)

    def figures(self) -> dict[str, float | None]:
        found: dict[str, float | None] = {"round_trip_ms": milliseconds(self.round_trip_seconds)}
        if self.experiment.probes is not None:
            found |= self._under_attack()
        if self.experiment.load:
            found |= self._honest_load()
        return {**found, "steal_percent": self.span(Counts.LOAD).steal_percent, **self._own()}

    def _own(self) -> dict[str, float | None]:
        """The generator's own cost, and how late the measuring processes were while they measured."""
        totals, judged = self.session.totals, [span for span in self.spans if span.counts_as in MEASURED]
        waited = [span.wait_percent for span in judged]
        if self.experiment.probes is not None:
            part, phases = "victims", {span.name for span in self.spans}
        else:
            part, phases = "crowd", {span.name for span in judged}
        return {
            "lag_p99_ms": milliseconds(totals.lag(part, 99, phases)),
            "lag_max_ms": milliseconds(totals.lag(part, 100, phases)),
            "backlog_p99_ms": milliseconds(totals.lag(part, 99, phases, "reading")),
            "backlog_max_ms": milliseconds(totals.lag(part, 100, phases, "reading")),
            **self.session.spent,
            "server_cpu_wait_percent": max((each for each in waited if each is not None), default=None),
        }

    def _honest_load(self) -> dict[str, float | None]:
        totals, steady = self.session.totals, self.span(Counts.LOAD)
        traffic = totals.traffic
        groups = [group for load in self.experiment.load for group in self.groups(load.name)]
        openings = [span for span in self.spans if span.counts_as is Counts.OPENING]
        phases = [span for span in self.spans if span.counts_as is Counts.LOAD]
        came = openings[-1].after.held - openings[0].after.held if openings else 0
        growth = openings[-1].after.own_bytes - openings[0].after.own_bytes if openings else 0
        return {
            "held": max((each.held for span in phases for each in (span.before, span.after)), default=0),
            **{fate: _total(groups, fate) for fate in ("refused", "failed", "ended")},
            **_percentiles("connect", pooled(group.connects for group in groups), "p50", "p99"),
            **_percentiles("handshake", pooled(group.handshakes for group in groups), "p50", "p99"),
            "sent_bytes_per_s": steady.rate("sent_bytes"),
            "received_bytes_per_s": steady.rate("received_bytes"),
            **_percentiles("ack", traffic.acks, "p50", "p99", "max"),
            **_percentiles("echo", traffic.echoes, "p50", "p99", "max"),
            "unacknowledged": traffic.unacknowledged + traffic.unsent,
            "unreturned": traffic.unreturned if self.experiment.echoes else None,
            "missed": totals.missed() if self.experiment.is_gathered else None,
            "surplus": totals.surplus() if self.experiment.is_gathered else None,
            "message_errors": sum(traffic.errors.values()),
            "messages_per_s": self.speaking.rate("acknowledged"),
            "deliveries_per_s": steady.rate("deliveries"),
            "own_bytes_per_client": per(growth, came) if growth > 0 else None,
            "connects_per_s": per(came, sum(span.opening_seconds for span in openings[1:])),
            "own_cpu_us_per_client": _cpu_each(openings, lambda reading: reading.crowd_cpu_seconds),
            "server_cpu_us_per_client": _cpu_each(openings, lambda each: each.server and each.server.cpu_seconds),
            "server_bytes_per_connection": bytes_each(openings[0], openings[-1]) if openings else None,
            "server_bytes_per_further_connection": bytes_each(openings[-2], openings[-1]) if openings[1:] else None,
            "server_cpu_us_per_connection_s": per(
                None if steady.cpu_seconds is None else steady.cpu_seconds * 1e6,
                sum(span.connection_seconds for span in phases),
            ),
        }

    def _under_attack(self) -> dict[str, float | None]:
        operations, attack, at_floor = self.operations, self.span(Counts.LOAD), self.at_floor
        base, during, after = (operations.latency(name) for name in PHASES)
        base_p99, attack_p99 = milliseconds(base.at(99)), milliseconds(during.at(99))
        p99s = {phase: operations.p99s(phase) for phase in PHASES}
        malformed = any(persona.threat is Threat.MALFORMED for persona in self.experiment.attackers)
        return {
            "success_percent": operations.success_percent("attack"),
            **{f"{phase}_failed": operations.failed(phase) for phase in PHASES},
            **_percentiles("baseline", base, "p50", "p99"),
            **_percentiles("attack", during, "p50", "p99", "p999", "max"),
            **{
                f"attack_{kind}_p99_ms": milliseconds(operations.latency("attack", (kind,)).at(99))
                for kind in ("ws", "poll", "sse", "get")
            },
            **_percentiles("recovery", after, "p50", "p99"),
            **operations.newcomers(),
            "p99_ratio": per(attack_p99, base_p99),
            "floor_baseline_p99_ms": at_floor.get("baseline_p99_ms"),
            "floor_p99_ms": at_floor.get("attack_p99_ms"),
            "floor_p99_ratio": per(attack_p99, at_floor.get("attack_p99_ms")),
            "p99_over_bar_ms": bar.most_over(p99s["baseline"], p99s["attack"]),
            "recovery_p99_over_bar_ms": bar.most_over(p99s["baseline"], p99s["recovery"]),
            "worst_victim_over_bar_ms": operations.worst_victim_over_bar(),
            "first_failure_s": operations.first_failure(attack.before.moment),
            "recover_s": recover_seconds(
                self.session.timeline,
                self._names(Counts.RECOVERY),
                None if base_p99 is None else bar.limit_ms(base_p99),
            ),
            **self._messages(),
            "malformed_accepted": sum(self.accepted().values()) if malformed else None,
            **self._neighbours(),
            **self._attackers(),
        }

    def _messages(self) -> Figures:
        found = self.session.totals.reread
        is_known = found.lost or (found.asked and not found.refused)
        return {
            "acknowledged": found.asked or None,
            "acknowledged_lost": found.lost if is_known else None,
            "members_wrong": found.members_wrong if found.rooms else None,
        }

    def accepted(self) -> dict[str, int]:
        """Malformed requests that were accepted, by case."""
        return requests.accepted(sum((Counter(group.answers) for group in self.attacking()), Counter()))

    def groups(self, name: str) -> list[GroupStatus]:
        return [group for group in self.session.totals.groups if group.group == name]

    def attacking(self) -> list[GroupStatus]:
        names = {persona.name for persona in self.experiment.attackers}
        return [group for group in self.session.totals.groups if group.persona in names]

    def _neighbours(self) -> dict[str, float | None]:
        groups = self.groups(BESIDE)
        hurt = _total(groups, "refused", "failed", "ended") + sum(group.starved for group in groups)
        return {
            "neighbours": sum(self.experiment.neighbours.values()) if groups else 0,
            "collateral": hurt if groups else None,
        }

    def _attackers(self) -> dict[str, float | None]:
        totals, groups = self.session.totals, self.attacking()
        lives = pooled(group.lifetime for group in groups)
        came = sum(group.came for group in groups)
        attempts = sum(group.opened for group in groups) + _total(groups, "failed", "refused")
        attack, baseline, recovery = map(self.span, (Counts.LOAD, Counts.BASELINE, Counts.RECOVERY))
        return {
            "attackers_asked": sum(self.experiment.attackers.values()),
            "attackers_came": came,
            "attacker_addresses": self.attacker_addresses,
            "attempts_per_s": per(attempts, attack.seconds),
            "attacker_bytes_per_s": per(sum(group.sent_bytes for group in groups), attack.seconds),
            "attackers_peak": sum(group.peak for group in groups),
            "attackers_held": sum(group.held for group in groups),
            "attackers_refused": _total(groups, "refused"),
            "attackers_killed": _total(groups, "ended"),
            "kill_p50_s": lives.at(50),
            "kill_max_s": lives.longest,
            "server_cpu_us_per_attacker_s": per(self._cpu_above_us(), self.attacker_seconds),
            "server_cpu_percent": attack.cpu_percent,
            **self._memory_figures(came),
            "server_descriptors_left": _over(self.descriptors_after, self.descriptors_before or 0),
            "crowd_lag_p99_ms": milliseconds(totals.lag("crowd", 99, self._names(Counts.LOAD))),
            "baseline_pressure_percent": baseline.pressure_percent,
            "recovery_pressure_percent": recovery.pressure_percent,
            "baseline_steal_percent": baseline.steal_percent,
        }

    def span(self, counts_as: Counts) -> Span:
        return joined(self.spans, counts_as)

    def opening_seconds(self, counts_as: Counts) -> float:
        return sum(span.opening_seconds for span in self.spans if span.counts_as is counts_as)

    @property
    def speaking(self) -> Span:
        """The measured phases joined, from the first that has a rate: the schedule goes on beside an attack."""
        speaks = {phase.name for phase in self.experiment.phases if phase.rate is not None}
        found = list(dropwhile(lambda span: span.name not in speaks, self.spans))
        return joined(found, *MEASURED)

    def _names(self, counts_as: Counts) -> set[str]:
        return {span.name for span in self.spans if span.counts_as is counts_as}

    def _sizes(self, counts_as: Counts) -> list[Size]:
        """The server's memory in these phases and at their end, when it is read however busy this machine is."""
        sizes = [size for name in self._names(counts_as) for size in self.memory.get(name, [])]
        span = self.span(counts_as)
        if span.server_bytes is not None:
            sizes.append(Size(span.after.moment, span.server_bytes))
        return sizes

    def _memory_figures(self, came: int) -> Figures:
        # The limit is by those that were asked for: handshakes of others that have not come yet cost memory as well.
        asked, tls = sum(self.experiment.attackers.values()), self.plan.target.tls
        before = [size for name in self._names(Counts.BASELINE) for size in self.memory.get(name, [])]
        most, left = grown(before, self._sizes(Counts.LOAD)), grown(before, self._sizes(Counts.RECOVERY)[-1:])
        return {
            "server_bytes_grown": most,
            # Divided by all that came, not by the peak: the sooner a server disconnects them, the lower the peak, and a
            # one-time 100 KB would then be a kilobyte for each of a hundred.
            "server_bytes_per_attacker": per(most, came),
            "server_bytes_over_bar": _over(most, bar.allowed_bytes(asked, tls=tls)),
            "server_bytes_left": left,
            "server_bytes_left_over_bar": _over(left, bar.allowed_bytes(asked, tls=tls, left=True)),
        }

    def _cpu_above_us(self) -> float | None:
        base, during = self.span(Counts.BASELINE), self.span(Counts.LOAD)
        if base.cpu_share is None or during.cpu_share is None:
            return None
        return (during.cpu_share - base.cpu_share) * during.seconds * 1e6


def recover_seconds(timeline: Sequence[Sample], phases: Container[str], bar_ms: float | None) -> float | None:
    """Seconds of the recovery up to its last bad entry; `None` if the recovery ended with one.

    An entry is not always a second long, because each phase ends with one.
    """
    entries = [(before.seconds, entry) for before, entry in pairwise(timeline) if entry.phase in phases]
    known = [entry for begun, entry in entries if entry.succeeded or entry.failed or entry.seconds - begun > _SHORT]
    if not known or bar_ms is None or not _good(known[-1], bar_ms):
        return None
    bad = [entry.seconds for entry in known if not _good(entry, bar_ms)]
    return round(bad[-1] - entries[0][0], 2) if bad else 0.0


def _cpu_each(openings: Sequence[Span], cpu_seconds: Callable[[Reading], float | None]) -> float | None:
    """CPU for each client that came after the warm-up, in microseconds."""
    if len(openings) < 2:
        return None
    before, after = openings[0].after, openings[-1].after
    began, ended = cpu_seconds(before), cpu_seconds(after)
    return None if began is None or ended is None else per(1e6 * (ended - began), after.held - before.held)


def _percentiles(what: str, latency: Latency, *names: str) -> dict[str, float | None]:
    """The figures of a latency, each named as its field of a `Spread`."""
    spread = latency.spread()
    return {f"{what}_{name}_ms": getattr(spread, f"{name}_ms") for name in names}


def _total(groups: Iterable[GroupStatus], *fates: str) -> int:
    return sum(sum(getattr(group, fate).values()) for group in groups for fate in fates)


def _over(amount: int | None, allowed: int) -> int | None:
    return None if amount is None else amount - allowed


def _good(sample: Sample, bar_ms: float) -> bool:
    return sample.succeeded > 0 and not sample.failed and (sample.p99_ms or 0.0) <= bar_ms
