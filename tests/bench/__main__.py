"""`python -m tests.bench [NAME ...] [--json FILE] [--plots DIR] [--quick]`: measure, show a table, and exit 1 if a
figure is short.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from tests.bench import processes, report
from tests.bench.figures import Plot, Result, Scale, Verdict

#: In the order of the table. A new bench is a module with a function `run`, and its name here.
BENCHES = (
    "memory", "handshakes", "broadcast", "flood", "idle", "beside", "publish", "mixed", "instructions",
    "publish-postgres", "search", "search-postgres", "workers", "stalls", "page", "tls", "costly", "pipeline", "curve",
    "drivers-sqlite", "drivers",
)  # fmt: skip
#: Exit code after Ctrl-C, as of shells.
STOPPED = 130


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHES)}; all if none is given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="also write there the plots of benches that have some"
    )
    parser.add_argument("--quick", action="store_true", help="small counts: shows that it works, measures nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(BENCHES)}")
    processes.prepare()
    try:
        scale = Scale.QUICK if arguments.quick else Scale.FULL
        results = measure(arguments.names or BENCHES, scale, arguments.plots)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    report.show(results)
    if arguments.json:
        report.write_json(results, arguments.json)
    short = any(result.verdict is Verdict.SHORT for result in results)
    return 1 if short and not arguments.quick else 0


def run(name: str, scale: Scale) -> Iterator[Result | Plot]:
    """Run a bench."""
    found: Iterator[Result | Plot] = import_module(f"tests.bench.{name.replace('-', '_')}").run(scale)
    return found


def measure(names: Sequence[str], scale: Scale, plots: Path | None) -> list[Result]:
    """The results, also printed on standard error as they come."""
    results = []
    for name in names:
        print(name, file=sys.stderr, flush=True)
        for result in run(name, scale):
            if isinstance(result, Result):
                print(report.line(result), file=sys.stderr, flush=True)
                results.append(result)
            elif plots is not None:
                report.write_plot(result, plots)
    return results


if __name__ == "__main__":
    sys.exit(main())
