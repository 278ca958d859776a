"""The report of an experiment, with the facts for its verdict.

Owns: which facts count, and the rows of the report. The figures come from measured.py.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from loadgen.clients.client import Needs, Threat
from loadgen.net.answers import NO_TURN, UNANSWERED
from loadgen.protocols import KEEPS_MESSAGES, NEWCOMERS, WHAT
from loadgen.report import format as fmt
from loadgen.report.bar import NOTICED_MS
from loadgen.report.conditions import Condition, bar_of
from loadgen.report.figures import Figures, When, meanings
from loadgen.report.latency import Latency
from loadgen.report.schema import CohortRow, Outcome, PhaseRow, Report, Verdict
from loadgen.report.verdict import causes, decide, others_were_busy, too_late
from loadgen.run.exercise import not_exercised, nothing_served
from loadgen.run.experiment import BESIDE, Counts
from loadgen.run.measured import Measured
from loadgen.run.span import Span, per

#: If a process of the generator stood still and left an answer unread for this share of a victim's timeout, it caused
#: the failures itself.
_STOOD_STILL: Final = 0.5

#: A crowd's process that was this late, in seconds, may have cost its honest clients their connections: meanwhile they
#: answer no pings, and some need 8 s for a request head, for which good servers allow 10.
_CROWD_STOOD_STILL: Final = 2.0

#: A server that used more of a processor before the attack was not kept from it, but is slow by itself.
_OF_ITS_OWN: Final = 0.5

#: Seconds of these that are not worth a word.
_SHORT: Final = 0.1

#: What such a process may itself cause: clients that the server ends, and answers that came and were not read in time.
_OF_STANDING_STILL: Final = ("ended", "unacknowledged", "unreturned", "missed")

#: Reasons that are named beside the verdict.
_NAMED: Final = 3

#: What can be judged on a machine that is never quiet, of a load and of an attack.
_COUNTS: Final = "refused>0,failed>0,ended>0,unacknowledged>0,message_errors>0"
_COUNTS_OF_VICTIMS: Final = "baseline_failed>0,attack_failed>0,recovery_failed>0,newcomers_failed>0"


def report_of(measured: Measured) -> Report:
    session, figures = measured.session, measured.figures()
    return Report(
        command=measured.experiment.command,
        target=measured.plan.target.url,
        seed=measured.plan.seed,
        started=session.started.at,
        seconds=session.seconds,
        verdict=_verdict(measured, figures),
        figures=figures,
        meanings=meanings(measured.experiment.known),
        phases=[*_schedule_rows(measured), *_victims_rows(measured)],
        cohorts=_cohort_rows(measured),
        timeline=session.timeline,
    )


# The facts


def _verdict(measured: Measured, figures: Figures) -> Verdict:
    unread = measured.session.totals.reread.unreadable == UNANSWERED
    bar, late = (*_bar(measured, figures), *measured.plan.conditions), too_late(figures)
    undue = [] if measured.experiment.probes is None else measured.operations.undue()
    if undue:
        bar = tuple(condition for condition in bar if figures[condition.figure] is not None)
    judges_times, faults = any(condition.is_time for condition in bar), _faults(measured, figures)
    unproven = _unproven(measured, figures)
    found = decide(
        figures,
        bar,
        down=measured.down,
        faults=faults,
        doubts=[*causes(figures), *(["the floor itself gave no figures"] * bool(measured.floor_fault))],
        unsure=[
            *undue,
            *(late if judges_times else []),
            *(measured.operations.loud_baseline() if judges_times and measured.experiment.compares else []),
            *filter(None, [_no_collateral(measured, figures)]),
            *[f"acknowledged messages could not be read again: {UNANSWERED}"] * unread,
        ],
        unproven=unproven,
        not_exercised=_not_exercised(measured),
        notes=[*_notes(measured, figures), *_why_failed(measured), *([] if judges_times else late)],
        interrupted=measured.session.stopped,
    )
    if found.outcome is Outcome.INVALID and judges_times and not (faults or unproven):
        counts = _COUNTS if measured.experiment.probes is None else _COUNTS_OF_VICTIMS
        found.notes.append(f"only times are in doubt; to judge counts alone say --no-bar --fail-if '{counts}'")
    return found


def _bar(measured: Measured, figures: Figures) -> tuple[Condition, ...]:
    if measured.plan.no_bar:
        return ()
    speaks = measured.experiment.speaks
    has = {
        When.SPEAKERS: speaks,
        When.ECHOES: speaks and measured.experiment.echoes,
        When.GATHERED: measured.experiment.is_gathered,
        When.COMPARED: measured.experiment.compares,
        When.NEWCOMERS: bool(measured.operations.kinds("attack", NEWCOMERS)),
        When.NEIGHBOURS: bool(measured.groups(BESIDE)) and not _no_collateral(measured, figures),
        When.KEPT: bool(figures.get("acknowledged") or measured.session.totals.reread.refused),
        When.MEMBERS: figures.get("members_wrong") is not None,
        When.MALFORMED: figures.get("malformed_accepted") is not None,
        # without attackers the server's growth is not the attack's
        When.WATCHED: measured.plan.server is not None and bool(figures.get("attackers_came")),
    }
    # An attack is not blamed for what took as long before it.
    far = max(figures.get("baseline_p50_ms") or 0.0, 1000 * measured.round_trip_seconds)
    given = [when for when, is_so in has.items() if is_so]
    return bar_of(measured.experiment.known, given, round_trip_ms=far)


def _faults(measured: Measured, figures: Figures) -> list[str]:
    if faults := measured.session.faults():
        return faults  # they explain whatever else is missing
    if measured.experiment.probes is None:
        traffic, endpoint = measured.session.totals.traffic, measured.plan.endpoint
        what = f"request for {endpoint.request_path}" if measured.experiment.requests else "message"
        why = nothing_served(what, traffic.errors, sum(traffic.acknowledged_in.values()))
        hurt = any(figures[name] for name in _OF_STANDING_STILL)
        still = _stood_still(figures, _CROWD_STOOD_STILL) if hurt else ""
        return [*filter(None, [why, still])]
    # nobody at all is unanswered for that reason, unless it lasts for the whole timeout
    share = 1.0 if measured.operations.has_outage() else _STOOD_STILL
    still = _stood_still(figures, share * measured.experiment.probes.timeout_seconds)
    return [*measured.operations.faults(), *filter(None, [still])]


def _stood_still(figures: Figures, most_seconds: float) -> str:
    """Say for how long the generator did nothing, and left an answer unread; empty if both together took less.

    An operation may meet both: it is begun late, and its answer is read late.
    """
    lag, backlog = ((figures[name] or 0.0) / 1000 for name in ("lag_max_ms", "backlog_max_ms"))
    parts = {"the generator itself stood still for": lag, "data for the generator lay unread for": backlog}
    lapses = [f"{what} {seconds:.1f} s" for what, seconds in parts.items() if seconds >= _SHORT]
    return " and ".join(lapses) if lag + backlog > most_seconds else ""


def _no_collateral(measured: Measured, figures: Figures) -> str:
    """Why the target is not blamed for hurt honest slow clients; empty if their own process was in time."""
    still = measured.session.totals.lag("crowd", 100, {span.name for span in measured.spans}) or 0.0
    hurt = figures.get("collateral")
    if not hurt or still < _CROWD_STOOD_STILL:
        return ""
    return f"{hurt:,.0f} honest slow clients were hurt, but their own process was {still:.1f} s late"


def _unproven(measured: Measured, figures: Figures) -> tuple[str, ...]:
    """The figures that count nothing but late answers, if others kept the processors from the server all the time.

    Its answers came too late before the attack already, when it had hardly anything to do.
    """
    had = measured.span(Counts.BASELINE).cpu_share or 0.0
    if not others_were_busy(figures) or had > _OF_ITS_OWN:
        return ()
    if measured.operations.answers_ms("baseline") <= NOTICED_MS + 1000 * measured.round_trip_seconds:
        return ()
    met = (fate for group in measured.groups(BESIDE) for fate in (group.refused, group.failed, group.ended))
    hurt_by_others = any(not reason.startswith(UNANSWERED) for fate in met for reason in fate)
    return (*measured.operations.only_late(), *(() if hurt_by_others else ("collateral",)))


def _not_exercised(measured: Measured) -> list[str]:
    """Why the attack proves nothing; empty if there were no attackers, or all were exercised."""
    attackers = {persona.name: persona for persona in measured.experiment.attackers}
    if not measured.span(Counts.LOAD).seconds:
        return ["not exercised: the attack was not played"]
    return not_exercised(measured.attacking(), attackers, measured.standing)


def _notes(measured: Measured, figures: Figures) -> list[str]:
    if measured.experiment.probes is None:
        return [*measured.left_out, *_notes_on_load(measured)]
    notes = [*([_intensity(measured, figures)] if measured.experiment.attackers else []), *measured.left_out]
    if lossy := measured.session.totals.sent_again:
        # on this machine none is lost, but a full backlog drops those that connect
        here = measured.plan.target.on_loopback
        why = "connections waited, as in a full backlog" if here else "the network loses packets"
        notes.append(f"{why}: {fmt.several(lossy, 'client')} sent packets again before the attack")
    if measured.experiment.attackers and not measured.plan.target.spreads_sources:
        notes.append("victims came from the attackers' address: a limit for each address hurts them too")
    if late := measured.operations.late():
        notes.append(f"late at the 99th percentile: {', '.join(late)}")
    if not figures["newcomers_came"]:
        notes.append("not exercised: newcomers, none came")
    if not figures["neighbours"]:
        notes.append("not exercised: collateral, no honest slow client was beside the attack")
    if taken := measured.accepted():
        notes.append(f"accepted although they must be refused: {', '.join(sorted(taken))}")
    if any(each.threat is Threat.MALFORMED and each.needs is Needs.WEBSOCKET for each in measured.experiment.attackers):
        notes.append("the answers to malformed frames are not judged: `loadgen conform` does that")
    reread = measured.session.totals.reread
    if reread.refused:
        notes.append(f"acknowledged messages could not all be read again ({reread.refused})")
    if reread.unreadable:
        notes.append(f"not exercised: acknowledged messages could not all be read again ({reread.unreadable})")
    over = figures["server_bytes_over_bar"] or 0
    if over > 0 and KEEPS_MESSAGES & measured.experiment.victims.keys():
        notes.append(f"{fmt.size(over)} of memory above the limit; if the server keeps messages in memory, these count")
    if measured.floor_fault:
        notes.append(f"nothing to compare with at the floor: {measured.floor_fault}")
    return notes


def _notes_on_load(measured: Measured) -> list[str]:
    groups = [group for load in measured.experiment.load for group in measured.groups(load.name)]
    again = sum(max(group.opened - group.came, 0) for group in groups)
    made = f"made again, after planned ends or between two requests: {fmt.several(again, 'connection')}"
    echoes = any(persona.needs is Needs.WEBSOCKET for load in measured.experiment.load for persona in load.counts)
    is_mute = echoes and measured.experiment.speaks and not measured.session.totals.traffic.acknowledged_in
    mute = "nothing that was sent came back: name with --ws-path where the target echoes each message to its sender"
    return [*[made][: bool(again)], *[mute][:is_mute]]


def _why_failed(measured: Measured) -> list[str]:
    """The most common reasons; the table of the report has all."""
    operations, clients = Counter(measured.session.totals.traffic.errors), Counter[str]()
    for phase in measured.operations.in_order():
        operations.update(phase.failed)
    del operations[NO_TURN]  # late, not failed
    for group in (group for load in measured.experiment.load for group in measured.groups(load.name)):
        for reasons in (group.refused, group.failed, group.ended):
            clients.update(reasons)
    failed = {"operations failed": +operations, "clients failed": +clients}
    return [
        f"{what}: {', '.join(f'{reason}: {number:,}' for reason, number in found.most_common(_NAMED))}"
        for what, found in failed.items()
        if found
    ]


def _intensity(measured: Measured, figures: Figures) -> str:
    rate = per(figures["attackers_came"], measured.opening_seconds(Counts.LOAD))
    came = f" at {rate:,.4g}/s" if rate else ""
    asked = f" (--connect-rate {measured.plan.connect_rate:g})" if measured.plan.connect_rate else ""
    sources = "one address" if figures["attacker_addresses"] == 1 else f"{figures['attacker_addresses']:,.0f} addresses"
    intensity = (
        f"{figures['attackers_came']:,.0f} of {figures['attackers_asked']:,.0f} attackers came{came}{asked},"
        f" from {sources}; over the whole attack {figures['attempts_per_s'] or 0:,.4g} connections/s and"
        f" {fmt.size(figures['attacker_bytes_per_s'] or 0)}/s sent"
    )
    if not measured.at_floor:
        return intensity
    attempts, sent = (measured.at_floor.get(name) or 0 for name in ("attempts_per_s", "attacker_bytes_per_s"))
    return f"{intensity}; at the floor {attempts:,.4g}/s and {fmt.size(sent)}/s"


# Rows


def _schedule_rows(measured: Measured) -> list[PhaseRow]:
    traffic, speaking = measured.session.totals.traffic, measured.speaking
    lost = {"unacknowledged": traffic.unacknowledged, "not sent: nobody was connected": traffic.unsent}
    acknowledged = sum(traffic.acknowledged_in.values())  # an error may be about one of these, such as a second echo
    returned = traffic.echoes.count - traffic.unreturned
    rows: tuple[tuple[str, Latency, int, dict[str, int]], ...] = (
        ("acknowledged", traffic.acks, acknowledged, {**lost, **traffic.errors}),
        ("own message back", traffic.echoes, returned, {"unreturned": traffic.unreturned}),
    )
    if not speaking.seconds:
        return []
    return [
        _row(speaking.name, what, latency, succeeded, failed, speaking)
        for what, latency, succeeded, failed in rows
        if latency.count
    ]


def _victims_rows(measured: Measured) -> list[PhaseRow]:
    spans = {span.name: span for span in measured.spans}
    return [
        _row(each.phase, WHAT[each.kind], each.latency, each.succeeded, each.failed, spans.get(each.phase))
        for each in measured.operations.in_order()
    ]


def _row(
    name: str, what: str, latency: Latency, succeeded: int, failed: Mapping[str, int], span: Span | None
) -> PhaseRow:
    return PhaseRow(
        name=name,
        what=what,
        seconds=round(span.seconds, 2) if span else 0.0,
        succeeded=succeeded,
        failed={reason: number for reason, number in failed.items() if number},
        spread=latency.spread(),
        histogram=latency.encoded(),
        server_cpu_percent=span.cpu_percent if span else None,
        server_pss_bytes=span.server_bytes if span else None,
    )


def _cohort_rows(measured: Measured) -> list[CohortRow]:
    known = {persona.name: persona for group in measured.experiment.groups for persona in group.counts}
    return [
        CohortRow(
            persona=group.persona,
            group=group.group,
            honest=known[group.persona].honest,
            slow=known[group.persona].slow,
            lifetime=group.lifetime.spread(),
            **group.counts(),
        )
        for group in measured.session.totals.groups
    ]
