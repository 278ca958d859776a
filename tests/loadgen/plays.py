"""Plans for scenarios that last a second or two."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from loadgen.clients.client import Client
from loadgen.net import target
from loadgen.net.target import Endpoint
from loadgen.personas import registry
from loadgen.report import conditions
from loadgen.report.conditions import Condition
from loadgen.report.figures import RUN
from loadgen.report.schema import Report
from loadgen.run import experiment
from loadgen.run.experiment import Experiment, Probes
from loadgen.run.player import Player
from loadgen.run.procfs import Process
from loadgen.run.progress import Progress
from loadgen.run.session import Plan
from tests.loadgen.planted import Plant, planted

#: A loaded machine costs no victim an operation; where a server never answers, a test says how long is waited.
PATIENCE = 30.0

#: The planted servers put nothing off, so that nothing need be waited for; but memory is read when a heap has come to
#: rest.
SETTLE_SECONDS = 0.05
SETTLE_MEMORY_SECONDS = 0.3


#: Figures of honest load that a sound server keeps at 0 however busy the machine is.
COUNTS = ("refused", "failed", "ended", "unacknowledged", "unreturned", "message_errors")

#: Interval between two operations of a victim: half of the program's CPU, and enough for every verdict.
OPERATION_SECONDS = 0.2


def beside_other_tests() -> ExitStack:
    """While it is open, victims do half of the work, and a crowd does not give way.

    On busy processors a crowd that did had not one attacker in after two seconds. That it does is test_processes.py's.
    """
    stack = ExitStack()
    stack.enter_context(patch("loadgen.run.player.CROWD_NICENESS", 0))
    stack.enter_context(patch("loadgen.run.player.OPERATION_SECONDS", OPERATION_SECONDS))
    return stack


def plan(
    url: str,
    *,
    server_pid: int | None = None,
    conditions: tuple[Condition, ...] = (),
    processes: int = 1,
    path: str = "/",
    websocket_path: str = "/ws",
    personas: tuple[str, ...] = (),
) -> Plan:
    return Plan(
        target=target.find(url),
        connect_rate=0.0,
        seed=1,
        server=None if server_pid is None else Process(server_pid),
        conditions=conditions,
        progress=Progress(),
        processes=processes,
        endpoint=Endpoint(path=path, websocket_path=websocket_path),
        settle_seconds=SETTLE_SECONDS if server_pid is None else SETTLE_MEMORY_SECONDS,
        personas=personas,
    )


def by_counts(plan: Plan) -> Plan:
    """Judge a run by what a loaded machine does not change."""
    counts = ",".join(f"{name}>0" for name in COUNTS)
    return replace(plan, no_bar=True, conditions=conditions.parse([counts], RUN, server_pid=False))


async def play_run(
    url: str,
    counts: Mapping[str, int],
    *,
    judged: Callable[[Plan], Plan] = lambda plan: plan,
    seconds: float = 0.6,
    poll_wait: float = 25.0,
    server_pid: int | None = None,
    processes: int = 1,
    **how: Any,
) -> Report:
    """A run; `how` is `experiment.honest_load`'s."""
    load = experiment.honest_load(_personas(counts), seconds=seconds, **how)
    groups = tuple(replace(group, poll_wait_seconds=poll_wait) for group in load.groups)
    load = replace(load, groups=groups, drain_seconds=20.0)  # a loaded machine's last answers come late
    if server_pid is None:
        load = replace(load, phases=load.phases[-2:])  # it opens in three steps for memory, which is not looked at
    return await Player(judged(plan(url, server_pid=server_pid, processes=processes)), load).play()


def config(
    counts: Mapping[str, int],
    *,
    seconds: float = 2.0,  # a crowd may begin half a second late on a loaded machine
    victims: int | Mapping[str, int] = 3,
    neighbours: Mapping[str, int] | None = None,
    baseline: float = 0.6,
    recovery: float = 0.6,
    operation_timeout: float = PATIENCE,
    newcomers_per_s: float = 2.0,
    per_address: int = target.PER_ADDRESS,
) -> Experiment:
    kinds = {"ws": victims} if isinstance(victims, int) else victims
    what = experiment.attack(
        probes=Probes(victims=kinds, newcomers_per_s=newcomers_per_s, timeout_seconds=operation_timeout),
        baseline_seconds=baseline,
        attack_seconds=seconds,
        recovery_seconds=recovery,
        per_address=per_address,
    )
    return what.against(_personas(counts)).beside(_personas(neighbours or {}))


def _personas(counts: Mapping[str, int]) -> dict[type[Client], int]:
    return {registry()[name]: number for name, number in counts.items()}


async def play_attack(
    url: str,
    counts: Mapping[str, int],
    *,
    server_pid: int | None = None,
    conditions: tuple[Condition, ...] = (),
    websocket_path: str = "/ws",
    **how: Any,
) -> Report:
    """An attack; `how` is `config`'s."""
    what = config(counts, **how)
    where = plan(url, server_pid=server_pid, conditions=conditions, websocket_path=websocket_path)
    with beside_other_tests() as patches:
        for persona in what.neighbours:  # seconds must do, whatever they would like to do
            patches.enter_context(patch.object(persona, "cycle_seconds", 0.0))
        return await Player(where, what).play()


def figure(report: Report, name: str) -> float:
    value = report.figures[name]
    assert value is not None, name
    return value


async def ran(plant: Plant, counts: Mapping[str, int], **how: Any) -> Report:
    with planted(plant) as server:
        return await play_run(server.url, counts, **how)


async def attacked(plant: Plant, counts: Mapping[str, int], **how: Any) -> Report:
    """An attack on a planted server; `how` is `play_attack`'s."""
    with planted(plant) as server:
        return await play_attack(server.url, counts, **how)
