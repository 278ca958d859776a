"""`python -m tests.soak [--seconds S] [--seed N] [--engine sqlite|postgres|both]`: kill everything, lose nothing.

Real servers, with a real PostgreSQL and two Valkey shards, whose processes, connections and networks are killed at
random, under clients that check every record. Exit code 1, the first violation and the seed, if a promise was broken.
Ctrl-C ends the run as its end would.
"""

import argparse
import random
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.soak.campaign import Campaign, Report
from tests.soak.cluster import Cluster, folder_kept_on_failure, one_machine, two_machines
from tests.soak.ledger import Violation

ENGINES: dict[str, Callable[..., AbstractAsyncContextManager[Cluster]]] = {
    "sqlite": one_machine,
    "postgres": two_machines,
}


def main() -> int:
    """Soak as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long in all (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of what is done")
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both", help="which cluster")
    parser.add_argument("--workers", type=int, default=2, help="of each node (default: %(default)d)")
    arguments = parser.parse_args()
    engines = list(ENGINES) if arguments.engine == "both" else [arguments.engine]
    for engine in engines:
        tell(f"{engine}, seed {arguments.seed}, {arguments.seconds / len(engines):g} s")
        try:
            is_stopped = soak(engine, arguments.seconds / len(engines), arguments.seed, arguments.workers)
        except BaseExceptionGroup as group:
            error = first(group)
            if isinstance(error, pytest.skip.Exception):
                print(error, file=sys.stderr)
                return 2
            if not isinstance(error, Violation):
                raise
            print(f"VIOLATION  {error}\nengine {engine}, seed {arguments.seed}", file=sys.stderr)
            return 1
        if is_stopped:
            break
    return 0


def tell(line: str) -> None:
    """Progress."""
    print(line, flush=True)


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of all that went wrong at once."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def soak(engine: str, seconds: float, seed: int, workers: int) -> bool:
    """One campaign and its report. Returns whether somebody ended it."""
    with folder_kept_on_failure() as folder:
        return trio.run(partial(_soak, engine, seconds, seed, workers, folder))


async def _soak(engine: str, seconds: float, seed: int, workers: int, folder: Path) -> bool:
    async with trio.open_nursery() as nursery, ENGINES[engine](folder, workers=workers) as cluster:
        campaign = Campaign(cluster, seed, tell)
        nursery.start_soon(_stop_at_signal, campaign)
        try:
            report = await campaign.run(seconds)
            await campaign.look_at_all()
        except BaseException:
            tell(f"done last: {', '.join(campaign.recent)}")
            raise
        nursery.cancel_scope.cancel()
        is_stopped = campaign.stopping.is_set()
    for line in told(campaign, report):
        tell(line)
    return is_stopped


async def _stop_at_signal(campaign: Campaign) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if campaign.stopping.is_set():
                raise KeyboardInterrupt
            tell("ending the round")
            campaign.stopping.set()


def told(campaign: Campaign, report: Report) -> list[str]:
    """The report as lines."""
    ledger, recoveries = campaign.ledger, sorted(report.recoveries)
    slowest, why = report.slowest_recovery
    signals = ", ".join(f"{name} {times}" for name, times in campaign.scene.signals.most_common())
    median = recoveries[len(recoveries) // 2]
    return [
        f"{report.seconds:.0f} s, {report.rounds} rounds, {report.troubles.total()} troubles:",
        *(f"  {times:4}  {name}" for name, times in report.troubles.most_common()),
        f"signals to processes: {signals}; nodes started {report.starts} times",
        f"{ledger.acknowledged:,} records acknowledged, {ledger.repeated:,} of them twice: none lost, none doubled",
        f"{ledger.seen:,} records heard over {report.connections:,} connections: each once, in order",
        f"epoch {ledger.epoch} all the time, {ledger.told_of_loss} gaps told",
        f"recovery: median {median:.2f} s, slowest {slowest:.1f} s ({why})",
        f"slowest acknowledgement: {report.slowest_acknowledgement:.1f} s",
    ]


if __name__ == "__main__":
    sys.exit(main())
