"""Processes that write one file side by side, and are killed: as in test_crash, and keys hold in all of them."""

import json
import os
import random
import threading
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.log.test_crash import CHILD, NEEDS, read_all
from tests.support.forking import fork

PUBLISHERS, PROCESSES = 9, 3
#: Answers of all after which one is killed, and then all others: at the first commits, and in full swing.
ANSWERS_BEFORE_KILLS = ((3, 60), (150, 300))

Answers = list[tuple[int, int, int]]


class Child:
    """One process, with its share of the publishers."""

    def __init__(self, path: Path, starts: dict[int, int], number: int) -> None:
        self._said, its_output = os.pipe()
        words = (str(path), json.dumps(starts), str(number), str(PROCESSES))
        self._process = fork(CHILD, *words, stdin=0, stdout=its_output, needs=NEEDS)
        os.close(its_output)

    def read(self, answers: Answers, enough: threading.Semaphore) -> None:
        """Until it ends; lines come whole, since each is one write."""
        with os.fdopen(self._said, "rb") as lines:
            for line in lines:
                publisher, message, offset = map(int, line.split())
                answers.append((publisher, message, offset))
                enough.release()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def run_and_kill(path: Path, starts: list[int], shift: int, one: int, others: int) -> Answers:
    """Publishers go to another process each time, and retry there what they had no answer to."""
    answers: Answers = []
    enough = threading.Semaphore(0)
    with ExitStack() as stack:
        children = []
        for number in range(PROCESSES):
            share = {each: start for each, start in enumerate(starts) if (each + shift) % PROCESSES == number}
            children.append(Child(path, share, number))
            stack.callback(children[-1].kill)
        readers = [threading.Thread(target=child.read, args=(answers, enough)) for child in children]
        for reader in readers:
            reader.start()
        for _ in range(one):
            assert enough.acquire(timeout=60)
        children[random.Random(one).randrange(PROCESSES)].kill()
        for _ in range(others):
            assert enough.acquire(timeout=60), "the others do not go on"
        for child in children:
            child.kill()
        for reader in readers:
            reader.join()
    return answers


@pytest.mark.slow
async def test_kill_9_of_one_and_of_all(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    starts = [0] * PUBLISHERS
    acknowledged: dict[tuple[int, int], int] = {}
    for shift, (one, others) in enumerate(ANSWERS_BEFORE_KILLS):
        for publisher, message, offset in run_and_kill(path, starts, shift, one, others):
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
        assert len(stored) - len(acknowledged) <= PUBLISHERS
