"""The floor of a scorecard: the same attack on a server that does the least that makes a chat.

Owns: the life of that server, started fresh for each attack, and the part of its run that is reported. Delays of the
victims there come from the machine and the generator, and so would affect any server. May not: judge; measured.py
says what the figures mean.
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

#: Address space of the floor, which buffers without limit for clients that do not read; it dies before the machine
#: does.
MOST_BYTES: Final = 4 * 2**30

#: The default ping interval of the peers of a comparison.
_PING_SECONDS: Final = 20.0

_PEER: Final = PEERS["floor"]


def require(where: Target) -> None:
    """Refuse a target that the floor cannot be compared with."""
    if where.tls or not where.on_loopback:
        raise UsageError("--floor: it runs on this machine and speaks no TLS, so there is nothing to compare with")


def is_fair(experiment: Experiment) -> bool:
    """Whether the floor can be compared in this attack, which is not so for malformed input: it does not validate."""
    return all(persona.threat is not Threat.MALFORMED for persona in experiment.attackers)


async def play(plan: Plan, experiment: Experiment) -> Floor:
    """Play the attack there. A floor that fails says why, and does not end the scorecard."""
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
        server=Process(server.pid) if plan.server else None,  # watching a process has a cost, so watch both or neither
        conditions=(),
        no_bar=True,  # the floor is a measure, and is not judged
        endpoint=USUAL,
    )
    try:
        report = await Player(there, experiment).play()
    except InvalidRunError as error:
        server.require()  # if it died, that is the better reason
        return Floor(fault=str(error))
    server.require()
    return told(report)


def told(report: Report) -> Floor:
    """The part of a finished run that is reported."""
    if report.outcome is Outcome.INTERRUPTED:
        return Floor(interrupted=True)
    if report.outcome is Outcome.INVALID:
        return Floor(fault=report.verdict.reasons[0])
    return Floor(figures=report.figures)
