"""kill -9 of one process and of several that write one file: no acknowledged message is lost, doubled or moved."""

import json
import os
import random
import threading
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from chatserver.log.interface import MAX_READ, Record
from chatserver.log.sqlite import SqliteLog
from tests.log import crash_child
from tests.log.support import running
from tests.support.forking import fork

CHILD, NEEDS = crash_child.__name__, (SqliteLog.__module__,)
PUBLISHERS = 12

Answers = list[tuple[int, int, int]]  # publisher, message, offset


class Child:
    """One of `count` processes, with its share of the publishers."""

    def __init__(self, path: Path, starts: dict[int, int], number: int, count: int) -> None:
        self._said, its_output = os.pipe()
        place = (str(number), str(count)) if count > 1 else ()
        self._process = fork(CHILD, str(path), json.dumps(starts), *place, stdin=0, stdout=its_output, needs=NEEDS)
        os.close(its_output)

    def read(self, answers: Answers, enough: threading.Semaphore) -> None:
        """Read lines until the process ends; each line is one write, so it arrives whole."""
        with os.fdopen(self._said, "rb") as lines:
            for line in lines:
                publisher, message, offset = map(int, line.split())
                answers.append((publisher, message, offset))
                enough.release()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def run_and_kill(path: Path, starts: list[int], processes: int, shift: int, kills: tuple[int, ...]) -> Answers:
    """Start the processes, kill one after each number of answers in `kills`, and all in the end.

    Publishers move to another process each time, and repeat unanswered messages there.
    """
    answers: Answers = []
    enough = threading.Semaphore(0)
    with ExitStack() as stack:
        children = []
        for number in range(processes):
            share = {each: start for each, start in enumerate(starts) if (each + shift) % processes == number}
            children.append(Child(path, share, number, processes))
            stack.callback(children[-1].kill)
        readers = [threading.Thread(target=child.read, args=(answers, enough)) for child in children]
        for reader in readers:
            reader.start()
        for count in kills:
            for _ in range(count):
                assert enough.acquire(timeout=60), "no further answers"
            children[random.Random(count).randrange(processes)].kill()
        for child in children:
            child.kill()
        for reader in readers:
            reader.join()
    return answers


async def read_all(path: Path) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    async with running(SqliteLog(str(path))) as log:
        for number in range(crash_child.ROOMS):
            records: list[Record] = []
            while page := await log.read(f"room-{number}", after=len(records), limit=MAX_READ):
                records += page
            found[f"room-{number}"] = records
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "rounds"),
    [(1, ((1,), (40,), (333,), (1_000,))), (3, ((3, 60), (150, 300)))],  # at the first commits, and under load
    ids=("one", "three"),
)
async def test_kill_9_loses_no_acknowledged_message_and_doubles_none(
    tmp_path: Path, processes: int, rounds: tuple[tuple[int, ...], ...]
) -> None:
    path = tmp_path / "chat.db"
    starts = [0] * PUBLISHERS
    acknowledged: dict[tuple[int, int], int] = {}
    for shift, kills in enumerate(rounds):
        for publisher, message, offset in run_and_kill(path, starts, processes, shift, kills):
            assert (publisher, message) not in acknowledged, "acknowledged twice"
            acknowledged[publisher, message] = offset
            starts[publisher] = max(starts[publisher], message + 1)
        order: defaultdict[int, list[int]] = defaultdict(list)
        stored: dict[tuple[int, int], int] = {}
        for room, records in (await read_all(path)).items():
            assert [record.offset for record in records] == list(range(1, len(records) + 1)), f"a hole in {room}"
            for record in records:
                publisher, message = int(record.user_id.removeprefix("u_")), int(record.text)
                order[publisher].append(message)
                stored[publisher, message] = record.offset
        assert acknowledged.items() <= stored.items(), "an acknowledged message is lost or has moved"
        for messages in order.values():
            assert messages == list(range(len(messages))), "stored twice, or out of order"
        # At most one message of each publisher was in flight, so at most one may be stored without an answer.
        assert len(stored) - len(acknowledged) <= PUBLISHERS
    assert len(acknowledged) >= sum(map(sum, rounds))
