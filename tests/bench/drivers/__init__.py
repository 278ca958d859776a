"""Are asynchronous drivers of databases faster than blocking ones in a small pool of threads?

How: the same reads, writes and small pipelines against PostgreSQL and Valkey, by each driver in a process of
its own, in a closed loop with 1, 10, 100 and 1,000 waiting requests; once as it is on the loopback, once with each
answer held back by 5 ms. All drivers of one engine have the same statements and as many connections. Throughput,
latency, and CPU of the driver's process for each operation; the tables go to standard output as Markdown, their plots
where `--plots` says.
What would fool it: other pool sizes; statements that one driver prepares and another does not, so a part of each cell
comes first and does not count; rows that are not read; a loop that costs more than the driver. The engine shares the
machine's cores with the driver, so a driver that costs less leaves it more.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from urllib.parse import urlsplit

import msgspec

from tests.bench.drivers.load import Cell, Plan
from tests.bench.drivers.table import Row, line, markdown, plots
from tests.bench.figures import TIMES, Plot, Result, Scale, at_least, at_most
from tests.bench.processes import ROOT

#: Seconds by which the answers are held back: another zone of a data centre, or a disk that is not idle.
DELAY = 0.005
#: By the name of an engine, its module here. Each has `start`, which starts the engine, fills it and yields its
#: address, or raises ImportError; and `SIDES`, the drivers by name, the one in threads first.
ENGINES = {"PostgreSQL": "postgres", "Valkey": "valkey"}
FULL, QUICK = Plan(1.0, (1, 10, 100, 1_000)), Plan(0.02, (1, 10))


def run(scale: Scale) -> Iterator[Result | Plot]:
    rows: list[Row] = []
    for engine, module in ENGINES.items():
        try:
            rows += measured(engine, module, scale.of(FULL, QUICK))
        except ImportError as missing:
            print(f"  {engine} is left out: {missing}", file=sys.stderr, flush=True)
    print(markdown(rows), end="\n\n", flush=True)
    yield from results(rows)
    yield from plots(rows)


def measured(engine: str, module: str, plan: Plan) -> list[Row]:
    rows = []
    its = import_module(f"{__name__}.{module}")
    with its.start() as address:
        for delay in (0.0, DELAY):
            for driver in its.SIDES:
                with _delayed(address, delay) if delay else nullcontext(address) as reached:
                    for cell in cells(module, driver, reached, plan):
                        rows.append(Row(engine, driver, delay * 1e3, cell))
                        print(line(rows[-1]), file=sys.stderr, flush=True)
    return rows


def results(rows: Sequence[Row]) -> Iterator[Result]:
    """For each engine and operation the driver in threads beside the best asynchronous one, a sample for each delay
    and number of waiting requests. The bounds are wide, because the question is which one is faster.
    """
    for engine, operation in dict.fromkeys((row.engine, row.cell.operation) for row in rows):
        places: dict[tuple[float, int], list[Row]] = {}
        for row in rows:
            if (row.engine, row.cell.operation) == (engine, operation):
                places.setdefault((row.delay_ms, row.cell.waiting), []).append(row)
        rates, costs = [], []
        for threads, *others in places.values():
            rates.append(threads.cell.rate / max(other.cell.rate for other in others))
            costs.append(threads.cell.cpu_us / min(other.cell.cpu_us for other in others))
        name = f"{engine}, {operation}: threads, of the best asynchronous driver's"
        yield Result(figure=at_least(f"{name} rate", TIMES, bound=0.5, aim=1.0), samples=rates)
        yield Result(figure=at_most(f"{name} CPU", TIMES, bound=3.0, aim=1.0), samples=costs)


@contextmanager
def _process(*words: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that ends with the block. In its own session: Ctrl-C goes to the bench alone, which then ends it."""
    command = [sys.executable, "-m", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def cells(module: str, driver: str, address: str, plan: Plan) -> Iterator[Cell]:
    """The cells of one driver of a module of this package, as they are measured."""
    words = (module, driver, address, msgspec.json.encode(plan).decode())
    with _process("tests.bench.drivers.side", *words) as process:
        assert process.stdout is not None
        for told in process.stdout:
            yield msgspec.json.decode(told, type=Cell)
        if process.wait() != 0:
            raise RuntimeError(f"{driver} ended with {process.returncode}")


@contextmanager
def _delayed(address: str, delay: float) -> Iterator[str]:
    """The address of a proxy that delays answers."""
    port = urlsplit(address).port
    with _process("tests.support.partition", str(port), str(delay)) as process:
        assert process.stdout is not None
        yield address.replace(f":{port}", f":{int(process.stdout.readline())}", 1)
