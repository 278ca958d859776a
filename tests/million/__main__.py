"""`python -m tests.million [--connections N] [--workers N]`: see `tests.million`.

Exit codes: 0 when all were held, or as many as fit; 1 when connections or messages were lost; 2 for wrong flags, or a
machine that does not allow it; 130 when interrupted, with the steps that were measured so far.
"""

import argparse
import sys

from loadgen.output import sections
from loadgen.output.exports import markdown
from loadgen.report import format as fmt
from loadgen.run.progress import Progress
from tests.bench import processes
from tests.bench.clients import ClosedError
from tests.million import table
from tests.million.holders import HolderDiedError
from tests.million.needs import MARGIN_BYTES, Machine, NotEnoughError, Plan, plan
from tests.million.run import Options, Outcome, run

EXIT_FAULTS, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130


def main() -> int:
    arguments = _parser().parse_args()
    options = Options(
        room_size=arguments.room_size, ping_interval=arguments.ping_interval, idle_seconds=arguments.idle_seconds,
        beside_seconds=arguments.beside_seconds, margin=int(arguments.margin * 2**30),
        most_seconds=arguments.minutes * 60,
    )  # fmt: skip
    machine = Machine.read()
    try:
        planned = plan(
            arguments.connections, machine, workers=arguments.workers, final_seconds=options.ping_interval
        )  # fmt: skip
    except NotEnoughError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    progress = Progress()
    progress.banner(_banner(planned, machine))
    processes.prepare()
    outcome = Outcome(planned, options)
    try:
        run(planned, options, outcome, progress)
    except KeyboardInterrupt:
        outcome.interrupted = True
    except (HolderDiedError, ClosedError, OSError, RuntimeError) as error:
        outcome.faults.append(str(error))
    finally:
        progress.done()
    print(markdown([sections.from_table(table.table(outcome))]))
    return EXIT_STOPPED if outcome.interrupted else EXIT_FAULTS if outcome.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.million", description=__doc__)
    parser.add_argument("--connections", type=int, default=1_000_000, metavar="N", help="how many (default 1,000,000)")
    parser.add_argument("--workers", type=int, metavar="N", help="of the server (default: as many as descriptors ask)")
    parser.add_argument("--room-size", type=int, default=10_000, metavar="N", help="members of a room (default 10,000)")
    parser.add_argument(
        "--ping-interval", type=float, default=120.0, metavar="SECONDS",
        help="of the server (default 120; its own default of 25 is 40,000 pings a second for a million)",
    )  # fmt: skip
    parser.add_argument("--idle-seconds", type=float, default=5.0, metavar="SECONDS", help="idle stretch at each step")
    parser.add_argument("--beside-seconds", type=float, default=10.0, metavar="SECONDS", help="busy room at each step")
    parser.add_argument(
        "--margin", type=float, default=MARGIN_BYTES / 2**30, metavar="GIB", help="memory to leave free (default 2)"
    )
    parser.add_argument("--minutes", type=float, default=15.0, metavar="N", help="open no more after so many")
    return parser


def _banner(planned: Plan, machine: Machine) -> list[str]:
    processes = f"{planned.workers} workers and {planned.holders} processes of clients"
    memory = f"{fmt.size(planned.bytes)} of {fmt.size(machine.available)} available"
    return [
        f"{planned.connections:,} idle WebSockets: {processes}, {planned.each:,} connections each at most",
        f"takes about {memory}, and {fmt.span(planned.seconds)}; Ctrl-C ends it",
        *filter(None, [planned.note]),
    ]


if __name__ == "__main__":
    sys.exit(main())
