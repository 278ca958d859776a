"""Plays an experiment: phase after phase, with probes beside the groups, and readings at both ends of each.

Owns: the order of events; nothing else decides when anything happens. `measured.py` makes figures of the readings taken
here.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import msgspec
import trio

from loadgen.clients.client import Needs
from loadgen.clients.opening import OPEN_DEADLINE_SECONDS
from loadgen.net.timers import NEVER, now
from loadgen.protocols import KEEPS_MESSAGES, history, served
from loadgen.report.schema import Outcome, Report, verdict
from loadgen.run import procfs
from loadgen.run.crowd import Crowd
from loadgen.run.exercise import fault_of_page, has_failed, whole_cycles, without_a_page
from loadgen.run.experiment import DRAIN, MEASURED, WARM_UP, Counts, Experiment, Phase, Probes
from loadgen.run.findings import report_of
from loadgen.run.measured import Measured
from loadgen.run.preflight import InvalidRunError
from loadgen.run.procfs import Usage
from loadgen.run.runner import ProbeRunner
from loadgen.run.session import LOOK_SECONDS, Plan, Session, cause_of_death
from loadgen.run.span import Reading, Size, Span
from loadgen.run.workers import Worker, Workers

#: Time, and attempts for each, that the victims have to connect before anything is measured.
CONNECT_LIMIT_SECONDS: Final = 15.0
CONNECT_ATTEMPTS: Final = 3

#: Interval between two operations of a victim. Over HTTP one follows the other, so on a distant or slow target the
#: interval is at least the time of this many pages.
OPERATION_SECONDS: Final = 0.1
PAGES: Final = 2.0

#: Real attackers have computers of their own; here they share one with the victims, so they run at a lower priority. At
#: niceness 10 a process gets a tenth of the CPU of its competitors.
CROWD_NICENESS: Final = 10

#: Time for a server, after the recovery, to get back to as few open descriptors as before the attack. The time in which
#: it cannot know that attackers have vanished comes on top.
RETURN_SECONDS: Final = 5.0

#: Time for messages to come twice, once all have come.
SURPLUS_SECONDS: Final = 0.5

#: If no client is established within this time, none will be. Longer than two SYN retransmits.
FIRST_SECONDS: Final = 8.0

#: The lowest rate of established clients that a run waits for: a synchronous server that spends 50 ms on each.
LEAST_OPENED_PER_S: Final = 20.0

#: Length of the steps of a ramp.
RAMP_SECONDS: Final = 0.2

_WATCH_SECONDS: Final = 0.5

NOT_FOLLOWED: Final = "redirects are not followed, so name the page that it leads to"

_ANY_SERVER: Final = (
    "for a server that does not speak chat.v1 say --request 'GET /path' or --mix echo=100, --victim 'GET /path' or"
    " --victim ws-echo, of capacity --protocol http or ws-echo; and --ws-path and --header, if it needs them"
)


class Player:
    def __init__(
        self, plan: Plan, experiment: Experiment, floor: Report | None = None, *, left_out: Iterable[str] = ()
    ) -> None:
        if experiment.probes is not None:  # the victims show what the target speaks
            is_chat = Needs.CHAT in served(experiment.probes.victims)
            plan = replace(plan, endpoint=msgspec.structs.replace(plan.endpoint, is_chat=is_chat))
        self._plan = plan
        self._experiment = experiment
        self._session = Session(plan)
        self._measured = Measured(plan, self._session, experiment, floor)
        self._measured.left_out += left_out
        self._crowd = Workers([])
        self._shares: dict[str, float] = {}  # share of each group that was opened before this phase
        self._attack_seen = NEVER  # when the attack was last looked at; `NEVER` outside the phases that are judged
        self._load_names = {group.name for group in experiment.load}
        self._page_seconds = 0.0  # time of a page before anything was played
        self.answered = False  # whether the target answered before anything was played

    async def play(self) -> Report:
        await self._session.play(self._act)
        return report_of(self._measured)

    async def _look(self) -> None:
        """Look at the target's page, and plan by it."""
        pages = await self._session.look()
        self._page_seconds = min(page.seconds for page in pages)
        self._measured.round_trip_seconds = min(page.way_seconds for page in pages)
        self.answered = pages[-1].status is not None
        self._look_at_page([page.status for page in pages])
        if self._experiment.neighbours:
            self._choose_neighbours(pages[0].status)
        attackers = {persona.name for persona in self._experiment.attackers}
        phases = [(each.name, each.seconds) for each in self._experiment.phases if each.counts_as in MEASURED]
        self._plan.progress.plan(phases, attackers=attackers)

    async def reported(self) -> Report:
        """Play, and report also an experiment that could not be measured."""
        try:
            return await self.play()
        except InvalidRunError as error:
            return self.report_without(str(error))

    def report_without(self, reason: str, outcome: Outcome = Outcome.INVALID) -> Report:
        """Return a report of an experiment that could not be played: no figure was measured."""
        report = report_of(self._measured)
        report.figures = dict.fromkeys(report.figures)
        report.verdict = verdict(outcome, [reason] if reason else list(self._measured.left_out))
        return report

    def _look_at_page(self, statuses: list[int | None]) -> None:
        """Require the page that victims fetch; a redirect is one, but not what was asked for."""
        endpoint, probes = self._plan.endpoint, self._experiment.probes
        if not ("get" in probes.victims if probes else self._experiment.requests and endpoint.method == "GET"):
            return
        if probes and (why := fault_of_page(endpoint.path, statuses)):
            raise InvalidRunError(why)
        status = statuses[0]
        if status in {301, 302, 303, 307, 308}:
            answer = f"GET {endpoint.path} was answered {status}"
            self._measured.left_out.append(f"{answer}: {NOT_FOLLOWED}")

    def _choose_neighbours(self, status: int | None) -> None:
        """Keep the neighbours that can play, and extend the attack until each has completed its cycle."""
        experiment = self._experiment
        neighbours, no_page = without_a_page(experiment.neighbours, status)
        chosen = experiment.beside(neighbours)
        neighbours, too_long = whole_cycles(neighbours, chosen.expected_seconds)
        self._experiment = self._measured.experiment = experiment.beside(neighbours, lasting=chosen.cycle_seconds)
        self._measured.left_out += [*no_page, *too_long]

    async def _act(self) -> None:
        await self._look()
        session, experiment = self._session, self._experiment
        probes = experiment.probes
        victims = await session.spawn_victims() if probes else None
        # a crowd that is itself measured keeps its normal priority
        self._crowd = await session.spawn_crowd(niceness=0 if experiment.load else CROWD_NICENESS)
        if victims is not None and probes is not None:
            session.begin(WARM_UP)
            await self._invite(victims, probes)
            if self._measured.down:
                return
        for group in experiment.groups:
            await self._crowd.make(group)
        if self._plan.target.spreads_sources:
            self._measured.attacker_addresses = self._crowd.attacker_addresses
        async with trio.open_nursery() as nursery:
            if probes:
                nursery.start_soon(self._watch_memory)
                nursery.start_soon(self._watch_attackers)
            for phase in experiment.phases:
                if not self._measured.down:
                    await self._play_phase(phase)
            nursery.cancel_scope.cancel()
        if experiment.speaks:
            await self._drain()
        if victims is not None and probes is not None:
            await self._see_what_is_left(victims)
            await self._end(victims, probes)
        if cause := await cause_of_death(self._plan):
            self._measured.down = f"the server died: {cause}"

    # Phases

    async def _play_phase(self, phase: Phase) -> None:
        session, found, measured = self._session, self._measured, phase.counts_as in MEASURED
        if measured and not found.spans:
            await trio.sleep(self._plan.settle_seconds)  # the server finishes what it put off
        if measured:
            await session.enter(phase.name)
        else:
            session.begin(phase.name)
        before = self._reading()
        if phase.counts_as is Counts.LOAD:
            self._attack_seen = before.moment
        try:
            await (self._lapse(phase) if measured else self._fill(phase))
            if measured:
                await session.refresh()
            self._look_at_attack()
        finally:
            self._attack_seen = NEVER
            came = max(self._crowd.last_came - before.moment, 0.0)
            found.spans.append(Span(phase.name, phase.counts_as, before, self._reading(), came))
        self._shares |= phase.open
        if phase.counts_as is Counts.BASELINE:
            found.descriptors_before = self._descriptors()
        for name in phase.close:
            await self._crowd.call(Crowd.close, name)
        if phase.close:
            await session.until(lambda: self._crowd.has_opened, CONNECT_LIMIT_SECONDS)

    async def _fill(self, phase: Phase) -> None:
        """Open clients, and wait until each is established or has failed."""
        await self._open(phase, 1.0)
        in_time = await self._session.until(lambda: self._crowd.has_opened, phase.seconds or FIRST_SECONDS)
        self._look_for_somebody(in_time=in_time)
        if self._measured.down:
            return
        if not phase.seconds:
            await self._all_opened()
        if phase.rate is not None:
            await self._crowd.speak(phase.rate, text_bytes=phase.text_bytes)
        await trio.sleep(self._plan.settle_seconds)

    async def _all_opened(self) -> None:
        clients, rate = sum(group.size for group in self._experiment.groups), self._plan.connect_rate
        limit = 2 * OPEN_DEADLINE_SECONDS + clients / LEAST_OPENED_PER_S + (clients / rate if rate else 0.0)
        if not await self._session.until(lambda: self._crowd.has_opened, limit):
            raise InvalidRunError(f"after {limit:,.0f} s some clients were neither established nor given up")

    def _look_for_somebody(self, *, in_time: bool) -> None:
        """Give up if no client is established; the run is invalid if most likely the target speaks another protocol."""
        load = [group for group in self._session.groups() if group.group in self._load_names and group.due]
        failed = {reason for group in load for reason in (*group.failed, *group.refused)}
        if any(group.opened for group in load) or not load or (in_time and not failed):
            return
        failures = ", ".join(sorted(failed)) or f"no answer in {FIRST_SECONDS:g} s"
        if has_failed(failed):
            self._measured.down = f"nobody was established: {failures}"
            return
        needs = {persona.needs.value for group in self._experiment.load for persona in group.counts}
        raise InvalidRunError(
            f"nobody was established: the target connects, but does not answer as {' and '.join(sorted(needs))} does"
            f" ({failures}); {_ANY_SERVER}"
        )

    async def _lapse(self, phase: Phase) -> None:
        if phase.rate is not None:
            over = phase.seconds if phase.ramp else 0.0
            await self._crowd.speak(phase.rate, text_bytes=phase.text_bytes, over_seconds=over)
        begun = now()
        if not phase.ramp or not phase.open:
            await self._open(phase, 1.0)
            await trio.sleep(phase.seconds)
            return
        while (gone := now() - begun) < phase.seconds:
            await self._open(phase, gone / phase.seconds)
            await trio.sleep(min(RAMP_SECONDS, phase.seconds - gone))
        await self._open(phase, 1.0)

    async def _open(self, phase: Phase, part: float) -> None:
        """Open the share of each group that is due after this part of the phase."""
        for name, share in phase.open.items():
            began = self._shares.get(name, 0.0)
            await self._crowd.call(Crowd.open, name, began + (share - began) * part)

    async def _drain(self) -> None:
        """Stop the schedule, and wait for what is due, because messages in flight are not lost."""
        session, limit = self._session, self._experiment.drain_seconds
        await session.enter(DRAIN)
        await self._crowd.call(Crowd.stop)
        deadline = now() + limit
        await session.until(lambda: self._crowd.quiet, limit)
        while self._experiment.is_gathered and now() < deadline and await session.missed(self._crowd):  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)  # each look asks the workers for all their counts
        await trio.sleep(SURPLUS_SECONDS)

    # Probes

    async def _invite(self, victims: Worker, probes: Probes) -> None:
        """Connect the victims. If they cannot work, the target has failed, or the run is invalid: it speaks another
        protocol, or has not answered in time."""
        wanted = sum(probes.victims.values())
        interval = max(OPERATION_SECONDS, PAGES * self._page_seconds)
        await victims.call(ProbeRunner.make, probes, interval_seconds=interval)

        def decided() -> bool:
            status = victims.current
            return status.connected == wanted or status.failures >= CONNECT_ATTEMPTS * wanted

        await self._session.until(decided, CONNECT_LIMIT_SECONDS)
        status = victims.current
        if status.connected == wanted:
            return
        died = await cause_of_death(self._plan)
        why = died or status.last_failure or "no answer"
        reason = f"only {status.connected} of {wanted} victims could do their work before the attack: {why}"
        if died or has_failed({status.last_failure}):
            self._measured.down = reason
            return
        chats = KEEPS_MESSAGES & probes.victims.keys()
        raise InvalidRunError(f"{reason}; {_ANY_SERVER}" if chats else reason)

    async def _end(self, victims: Worker, probes: Probes) -> None:
        """Wait for outstanding operations, and have every acknowledged message read again."""
        await victims.call(ProbeRunner.stop)
        await self._session.until(
            lambda: victims.up_to_date and not victims.current.outstanding, probes.timeout_seconds
        )
        reread = bool(KEEPS_MESSAGES & probes.victims.keys())
        if reread:
            self._plan.progress.say("reading every acknowledged message again")
        await victims.call(ProbeRunner.end, reread=reread)
        await self._session.until(lambda: victims.up_to_date, history.LONGEST_SECONDS)

    async def _see_what_is_left(self, victims: Worker) -> None:
        """Give the server time to close what the attackers left behind, and count its descriptors.

        Newcomers stop. Of those that have left, a server that keeps their descriptors for 5 s has more than at the end
        of a short baseline, attacked or not.
        """
        found = self._measured

        def is_back() -> bool:
            found.descriptors_after = self._descriptors()
            after, before = found.descriptors_after, found.descriptors_before
            return after is None or before is None or after <= before

        if not is_back():
            unnoticed = max((each.unnoticed_seconds for each in self._experiment.attackers), default=0.0)
            limit = unnoticed + RETURN_SECONDS
            await victims.call(ProbeRunner.stop_newcomers)
            self._plan.progress.say(f"waiting up to {limit:g} s for the server to close what the attackers left open")
            await self._session.until(is_back, limit)

    # Readings

    def _reading(self) -> Reading:
        groups = [group for group in self._session.groups() if group.group in self._load_names]
        return Reading(
            moment=now(),
            server=self._usage(),
            held=sum(group.held for group in groups),
            own_bytes=self._session.own_bytes(),
            crowd_cpu_seconds=sum(worker.watched.cpu_seconds() or 0.0 for worker in self._crowd.workers),
            acknowledged=self._crowd.acknowledged,
            deliveries=sum(group.deliveries for group in self._session.groups()),
            sent_bytes=sum(group.sent_bytes for group in groups),
            received_bytes=sum(group.received_bytes for group in groups),
            ticks=procfs.ticks(),
            pressure=procfs.pressure(),
            server_waits=self._plan.server.waits() if self._plan.server else {},
        )

    def _usage(self) -> Usage | None:
        return self._plan.server.usage() if self._plan.server else None

    def _descriptors(self) -> int | None:
        return self._plan.server.descriptors() if self._plan.server else None

    async def _watch_memory(self) -> None:
        while (usage := self._usage()) is not None:
            self._measured.memory.setdefault(self._session.phase, []).append(Size(now(), usage.pss_bytes))
            await trio.sleep(_WATCH_SECONDS)

    async def _watch_attackers(self) -> None:
        """Count the attackers and the time that they stood."""
        names = {group.name for group in self._experiment.groups if group.attacks}
        last = now()
        while True:
            await trio.sleep(_WATCH_SECONDS)
            self._look_at_attack()
            held, moment = sum(map(self._crowd.held, names)), now()
            self._measured.attacker_seconds += held * (moment - last)
            last = moment

    def _look_at_attack(self) -> None:
        if (moment := now()) > self._attack_seen:
            self._measured.standing.look(self._session.groups(), moment - self._attack_seen)
            self._attack_seen = moment
