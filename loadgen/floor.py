"""The floor of a scorecard: the same attack on a server that does the least with which a chat can be had.

Owns: the life of that server, fresh for each attack and gone after it, and what of its run is worth telling. What
victims feel there is the machine's doing, and the generator's: they share it with any server. May not: judge; what the
figures mean is said in measured.py.
"""

import resource
from dataclasses import replace
from pathlib import Path
from typing import Final

from loadgen import target
from loadgen.client import Threat
from loadgen.compare.catalogue import PEERS
from loadgen.compare.process import DiedError, Server, running
from loadgen.experiment import Experiment
from loadgen.measured import Floor
from loadgen.player import Player
from loadgen.preflight import InvalidRunError
from loadgen.procfs import Process
from loadgen.report import Outcome, Report
from loadgen.session import Plan
from loadgen.target import USUAL, Target, UsageError

#: It keeps without a bound what its clients do not read. Beyond this it ends, before the machine does.
MOST_BYTES: Final = 4 * 2**30

#: As often as the peers of a comparison are told to ping by default.
_PING_SECONDS: Final = 20.0

_PEER: Final = PEERS["floor"]


def require(where: Target) -> None:
    """Refuse a target that has nothing in common with it."""
    if where.tls or not where.on_loopback:
        raise UsageError("--floor: it runs on this machine and speaks no TLS, so there is nothing to compare with")


def is_fair(experiment: Experiment) -> bool:
    """Whether it can meet the attack: it understands nothing that is malformed."""
    return all(persona.threat is not Threat.MALFORMED for persona in experiment.attackers)


async def play(plan: Plan, experiment: Experiment) -> Floor:
    """Play the attack there. A floor that comes to nothing says why, and does not end a scorecard."""
    try:
        async with running(_command) as server:
            resource.prlimit(server.pid, resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
            return await _play_at(server, plan, experiment)
    except DiedError as error:
        return Floor(fault=f"the floor {error}")


def _command(work: Path, port: int) -> list[str]:
    return _PEER.kit.command(work, work, port, _PING_SECONDS)


async def _play_at(server: Server, plan: Plan, experiment: Experiment) -> Floor:
    there = replace(
        plan,
        target=target.find(server.url),
        server=Process(server.pid) if plan.server else None,  # what is looked at costs a little
        conditions=(),
        no_bar=True,  # the floor is a measure, and is not judged
        endpoint=USUAL,
    )
    try:
        report = await Player(there, experiment).play()
    except InvalidRunError as error:
        server.require()  # that it died says more
        return Floor(fault=str(error))
    server.require()
    return told(report)


def told(report: Report) -> Floor:
    """What is worth telling of a run that ended."""
    if report.outcome is Outcome.INTERRUPTED:
        return Floor(interrupted=True)
    if report.outcome is Outcome.INVALID:
        return Floor(fault=report.verdict.reasons[0])
    return Floor(figures=report.figures)
