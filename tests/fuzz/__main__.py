"""`python -m tests.fuzz [--seconds S] [--seed N]`: random peers at real servers, random orders at the machines.

Both run at once for so many seconds. If anything was found the exit code is 1 and the seed is printed.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import trio

from tests.fuzz.machine import ConnectionMachine, SecureMachine
from tests.fuzz.playing import play
from tests.fuzz.sockets import campaigns

#: Examples of each machine between two looks at the clock.
ROUND = 50
#: Seconds that the machines may take beyond theirs: to make an example that they have found smaller.
SHRINKING = 600


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of all randomness")
    parser.add_argument("--only", choices=("sockets", "machines"), help="one of the two")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    if arguments.only == "machines":
        explore(arguments.seconds, arguments.seed)
        return 0
    command = [sys.executable, "-m", "tests.fuzz", "--only", "machines"]
    command += ["--seconds", str(arguments.seconds), "--seed", str(arguments.seed)]
    machines = subprocess.Popen(command) if arguments.only is None else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            attack = partial(campaigns, Path(folder), arguments.seed, seconds=arguments.seconds)
            print(*trio.run(attack), sep="\n", flush=True)
        return machines.wait(arguments.seconds + SHRINKING) if machines else 0
    finally:
        if machines:
            machines.kill()


def explore(seconds: float, seed: int) -> None:
    """Run both machines until the time is over."""
    over = time.monotonic() + seconds
    examples = 0
    while time.monotonic() < over:
        for machine in (ConnectionMachine, SecureMachine):
            play(machine, ROUND, seed=seed + examples)
        examples += ROUND
    print(f"machines: {examples} examples each, without and with TLS, from seed {seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
