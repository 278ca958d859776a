"""`python -m tests.soak [--seconds S] [--seed N] [--engine sqlite|postgres|both]`: kill everything, lose nothing.

Real servers, with a real PostgreSQL and two Valkey shards, whose processes, connections and networks are killed at
random, under clients that check every record. Exit codes: 0; 1 when a promise was broken, with the first violation and
the seed; 2 when something is not installed; 130 after Ctrl-C. Nothing is left behind except the folder that `--keep`
names.
"""

import argparse
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trio

from tests.soak.campaign import Campaign
from tests.soak.cluster import Cluster, one_machine, two_machines
from tests.soak.ledger import Violation

EXIT_BROKEN, EXIT_LACKING, EXIT_STOPPED = 1, 2, 130
#: Lines of each node's log that are shown when a run has failed.
FAREWELL_SHARE = 20

ENGINES: dict[str, Callable[..., AbstractAsyncContextManager[Cluster]]] = {
    "sqlite": one_machine,
    "postgres": two_machines,
}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long in all (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of what is done")
    parser.add_argument("--engine", choices=(*ENGINES, "both"), default="both", help="which cluster")
    parser.add_argument("--workers", type=int, default=2, help="of each node (default: %(default)d)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave what the nodes write there")
    arguments = parser.parse_args(words)
    engines = list(ENGINES) if arguments.engine == "both" else [arguments.engine]
    for engine in engines:
        run = Run(engine, arguments.seconds / len(engines), arguments.seed, arguments.workers)
        tell(f"{engine}, seed {run.seed}, {run.seconds:g} s")
        try:
            trio.run(run.main, arguments.keep)
        except* Violation as group:
            print(f"VIOLATION  {first(group)}\nengine {engine}, seed {run.seed}", file=sys.stderr)
            run.code = EXIT_BROKEN
        except* pytest.skip.Exception as group:
            print(first(group), file=sys.stderr)
            run.code = EXIT_LACKING
        except* KeyboardInterrupt:
            run.code = EXIT_STOPPED
        finally:
            for line in run.told():
                tell(line)
        if run.code:
            return run.code
    return 0


def tell(line: str) -> None:
    print(line, flush=True)


def first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a possibly nested group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextmanager
def folder_for(engine: str, keep: Path | None) -> Iterator[Path]:
    """The nodes' folder; if the block fails, the ends of their logs are printed."""
    with TemporaryDirectory(prefix="chat-soak-") if keep is None else nullcontext(keep / engine) as name:
        folder = Path(name).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        except BaseException:
            for line in last_words(folder):
                tell(line)
            raise


def last_words(folder: Path) -> list[str]:
    """The last lines of each node's log."""
    return [
        f"{path.stem}: {line}"
        for path in sorted(folder.glob("*.err"))
        for line in path.read_text(errors="replace").splitlines()[-FAREWELL_SHARE:]
    ]


class Run:
    """One campaign on one cluster."""

    def __init__(self, engine: str, seconds: float, seed: int, workers: int) -> None:
        self.engine, self.seconds, self.seed = engine, seconds, seed
        self.code = 0
        self.campaign: Campaign | None = None  # once the cluster serves
        self.is_whole = False  # it has ended as it should, and everything was looked at
        self._workers = workers

    async def main(self, keep: Path | None) -> None:
        """Run the campaign; when this returns, every process has ended."""
        # Outside of all else, so that no signal interrupts the end.
        with (
            trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
            folder_for(self.engine, keep) as folder,
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_at_a_signal, signals, nursery.cancel_scope)
                async with ENGINES[self.engine](folder, workers=self._workers) as cluster:
                    self.campaign = campaign = Campaign(cluster, self.seed, tell)
                    await campaign.run(self.seconds)
                    await campaign.look_at_all()
                self.is_whole = True
                nursery.cancel_scope.cancel()

    def told(self) -> list[str]:
        """The lines of the report, also of a run that ended early."""
        return ["nothing was done yet"] if self.campaign is None else self.campaign.told(is_whole=self.is_whole)

    async def _end_at_a_signal(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        await anext(signals)
        self.code = EXIT_STOPPED
        tell("ending")
        scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
