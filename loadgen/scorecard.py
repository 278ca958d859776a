"""`loadgen scorecard`: every attack in turn, one verdict table.

Owns: which attacks are played, in which order and with how many attackers; each is a whole `Attack` of its own, with
its own baseline, so that one does not colour the next.
"""

from collections.abc import Iterable, Mapping

from loadgen.attack import Assault, Attack
from loadgen.client import Client, Needs
from loadgen.preflight import InvalidRunError
from loadgen.report import Outcome, Report, verdict
from loadgen.scenario import Plan

#: What each kind of victim proves its server to speak.
_SPOKEN: Mapping[str, frozenset[Needs]] = {
    "get": frozenset((Needs.HTTP,)),
    "ws-echo": frozenset((Needs.HTTP, Needs.WEBSOCKET)),
}


def playable(personas: Iterable[type[Client]], victims: Iterable[str]) -> list[type[Client]]:
    """The attacks that make sense against a server which such victims can use."""
    spoken = [_SPOKEN.get(kind, frozenset(Needs)) for kind in victims]
    return [persona for persona in personas if any(persona.needs in needs for needs in spoken)]


class Scorecard:
    """One scorecard."""

    def __init__(self, plan: Plan, assault: Assault, kinds: Iterable[type[Client]], clients: int) -> None:
        self._plan = plan
        self._assault = assault  # its counts are not looked at
        self._kinds = list(kinds)
        self._clients = clients

    async def play(self) -> Report:
        """Play all attacks, one after the other."""
        parts: list[Report] = []
        for number, kind in enumerate(self._kinds, start=1):
            count = min(kind.usual_clients, self._clients)
            self._plan.progress.say(f"attack {number} of {len(self._kinds)}: {count:,} {kind.name}")
            parts.append(await self._play_one(kind, count))
            if parts[-1].outcome is Outcome.INTERRUPTED:
                break
        return self._report(parts)

    async def _play_one(self, kind: type[Client], count: int) -> Report:
        attack = Attack(self._plan, self._assault.against({kind: count}))
        try:
            part = await attack.play()
        except InvalidRunError as error:  # the server did not get up again, most likely: that is this row's finding
            part = attack.report_without(str(error))
        part.command = kind.name
        return part

    def _report(self, parts: list[Report]) -> Report:
        outcomes = [part.outcome for part in parts]
        by_gravity = (Outcome.INTERRUPTED, Outcome.FELL_SHORT, Outcome.INVALID, Outcome.HELD)
        outcome = next((each for each in by_gravity if each in outcomes), Outcome.HELD)
        reasons = [f"{part.command}: {'; '.join(part.verdict.reasons)}" for part in parts if part.verdict.reasons]
        return Report(
            command="scorecard",
            arguments=self._plan.arguments,
            target=self._plan.target.url,
            seed=self._plan.seed,
            started=parts[0].started,
            seconds=round(sum(part.seconds for part in parts), 2),
            verdict=verdict(outcome, reasons),
            figures={
                "attacks": len(parts),
                "held": outcomes.count(Outcome.HELD),
                "fell_short": outcomes.count(Outcome.FELL_SHORT),
                "invalid": outcomes.count(Outcome.INVALID),
            },
            meanings={
                "attacks": "attacks that were played",
                "held": "of these, the target held",
                "fell_short": "the target fell short",
                "invalid": "the generator was the bottleneck, or there were no victims to compare with",
            },
            parts=parts,
        )
