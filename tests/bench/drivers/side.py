"""One driver's turn, in a process of its own: `python -m tests.bench.drivers.side ENGINE DRIVER ADDRESS PLAN`."""

import importlib
import sys

import msgspec

from chatserver.log.threads import THREAD_SWITCH
from tests.bench.drivers.load import Plan


def main() -> None:
    engine, driver, address, plan = sys.argv[1:]
    sys.setswitchinterval(THREAD_SWITCH)  # as in the server, for all
    sides = importlib.import_module(f"tests.bench.drivers.{engine}").SIDES
    sides[driver](address, msgspec.json.decode(plan, type=Plan))


if __name__ == "__main__":
    main()
