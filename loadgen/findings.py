"""The report of an experiment, with the facts for its verdict.

Owns: which facts count, and the rows of the report. The figures come from measured.py.
"""

from typing import Final

from loadgen import expected
from loadgen import format as fmt
from loadgen.exercise import not_exercised
from loadgen.experiment import BESIDE, Counts
from loadgen.figures import Condition, Figures, When, bar_of, meanings
from loadgen.measured import Measured
from loadgen.messages import PhaseResult
from loadgen.protocols import NEWCOMERS, WHAT
from loadgen.report import PhaseRow, Report, Verdict
from loadgen.scrape import growth
from loadgen.session import cohort_rows
from loadgen.verdict import Facts, busy, decide, suspects

#: If a process of the generator stood still for this share of a victim's timeout, it caused the failures itself.
_STOOD_STILL: Final = 0.5


class Findings(Measured):
    def report(self) -> Report:
        session, figures = self._session, self.figures()
        personas = {persona for group in self.experiment.groups for persona in group.counts}
        return Report(
            command=self.experiment.command,
            arguments=self._plan.arguments,
            target=self._plan.target.url,
            seed=self._plan.seed,
            started=session.started.at,
            seconds=session.seconds,
            verdict=self._verdict(figures),
            figures=figures,
            meanings=meanings(self.experiment.known),
            phases=[*self._schedule_rows(), *map(self._phase_row, self._operations.in_order())],
            cohorts=cohort_rows(session.totals.groups, personas),
            timeline=session.timeline,
            metrics=growth(self.counters_before, self.counters_after),
        )

    # The facts

    def _verdict(self, figures: Figures) -> Verdict:
        return decide(
            Facts(
                figures=figures,
                bar=(*self._bar(figures), *self._plan.conditions),
                died=self.died,
                faults=tuple(self._faults(figures)),
                busy=busy(figures),
                loose=tuple(self._operations.loud_baseline()) if self.experiment.probes else (),
                noise=(*suspects(figures), *(["the floor itself came to nothing"] * bool(self._floor.fault))),
                not_exercised=tuple(self._not_exercised()),
                notes=self._notes(figures),
                interrupted=self._session.stopped,
            )
        )

    def _bar(self, figures: Figures) -> tuple[Condition, ...]:
        if self._plan.no_bar:
            return ()
        speaks = self.experiment.speaks
        has = {
            When.SPEAKERS: speaks,
            When.ECHOES: speaks and self.experiment.echoes,
            When.GATHERED: speaks and self.experiment.is_gathered,
            When.NEWCOMERS: bool(self._operations.kinds("attack", NEWCOMERS)),
            When.NEIGHBOURS: bool(self._groups(BESIDE)),
            When.KEPT: figures.get("acknowledged") is not None,
            When.MALFORMED: figures.get("malformed_accepted") is not None,
            When.WATCHED: self._plan.server is not None,
        }
        far = max(figures.get("baseline_p50_ms") or 0.0, figures["round_trip_ms"] or 0.0)
        given = [when for when, is_so in has.items() if is_so]
        return bar_of(self.experiment.known, given, round_trip_ms=far)

    def _faults(self, figures: Figures) -> list[str]:
        if self._session.stopped:
            return []
        faults = self._session.faults()
        if self.experiment.probes is None:
            return faults
        faults += self._operations.faults()
        lag = figures["lag_max_ms"]
        if lag is not None and lag > 1000 * _STOOD_STILL * self.experiment.probes.timeout_seconds:
            faults.append(f"the generator itself stood still for {lag / 1000:.1f} s")
        return faults

    def _not_exercised(self) -> list[str]:
        """Why the attack proves nothing; empty if there were no attackers, or all were exercised."""
        attackers = {persona.name: persona for persona in self.experiment.attackers}
        if not attackers:
            return []
        if not self._span(Counts.LOAD).seconds:
            return ["not exercised: the attack was not played"]
        return not_exercised(self._attacking(), attackers)

    def _notes(self, figures: Figures) -> tuple[str, ...]:
        if self.experiment.probes is None:
            return tuple(self.left_out)
        notes = [*([self._intensity(figures)] if self.experiment.attackers else []), *self.left_out]
        if figures["baseline_failed"]:
            notes.append(f"{figures['baseline_failed']:,.0f} operations failed before anything was done to the server")
        if late := self._operations.late():
            notes.append(f"late at the 99th percentile: {', '.join(late)}")
        if not figures["newcomers_came"]:
            notes.append("not exercised: newcomers, none came")
        if not figures["neighbours"]:
            notes.append("not exercised: collateral, no honest slow client was beside the attack")
        found = self._session.totals.reread
        if taken := self._accepted():
            notes.append(expected.words(taken))
        if found is not None and found.unreadable:
            notes.append(f"not exercised: acknowledged messages could not all be read again ({found.unreadable})")
        if self._floor.fault:
            notes.append(f"nothing to compare with at the floor: {self._floor.fault}")
        return tuple(notes)

    def _intensity(self, figures: Figures) -> str:
        """Say how hard the attack was, which may be less than asked for if the server is slow to accept."""
        asked = f" (asked {self._plan.connect_rate:,.0f}/s)" if self._plan.connect_rate else ""
        told = (
            f"{figures['attackers_came']:,.0f} of {figures['attackers_asked']:,.0f} attackers came,"
            f" {figures['attempts_per_s'] or 0:,.4g} connections/s{asked},"
            f" {fmt.size(figures['attacker_bytes_per_s'] or 0)}/s sent"
        )
        attempts, sent = (self._floor.figures.get(name) for name in ("attempts_per_s", "attacker_bytes_per_s"))
        if attempts is None or sent is None:
            return told
        return f"{told}; at the floor {attempts:,.4g}/s and {fmt.size(sent)}/s"

    # Rows

    def _schedule_rows(self) -> list[PhaseRow]:
        """The rows for the messages of honest load."""
        traffic, steady = self._session.totals.traffic, self._span(Counts.LOAD)
        rows = (
            ("acknowledged", traffic.acks, {"unacknowledged": traffic.unacknowledged, **traffic.errors}),
            ("own message back", traffic.echoes, {"unreturned": traffic.unreturned}),
        )
        if not steady.seconds or not self.experiment.load or not self.experiment.speaks:
            return []
        names = [span.name for span in self.spans if span.counts_as is Counts.LOAD]
        return [
            PhaseRow(
                name=names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}",
                what=what,
                seconds=round(steady.seconds, 2),
                succeeded=latency.count - sum(missing.values()),
                failed={reason: number for reason, number in missing.items() if number},
                spread=latency.spread(),
                histogram=latency.encoded(),
                server_cpu_percent=steady.cpu_percent,
                server_pss_bytes=steady.server_bytes,
            )
            for what, latency, missing in rows
            if latency.count
        ]

    def _phase_row(self, result: PhaseResult) -> PhaseRow:
        span, latency = next((each for each in self.spans if each.name == result.phase), None), result.latency
        return PhaseRow(
            name=result.phase,
            what=WHAT[result.kind],
            seconds=round(span.seconds, 2) if span else 0.0,
            succeeded=latency.count - sum(result.failed.values()),
            failed=result.failed,
            spread=latency.spread(),
            histogram=latency.encoded(),
            server_cpu_percent=span.cpu_percent if span else None,
            server_pss_bytes=span.server_bytes if span else None,
        )
