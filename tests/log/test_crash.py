"""kill -9, again and again: every acknowledged message is there, once, in order, and no offset is missing."""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from chatserver.log.interface import MAX_READ, Record
from chatserver.log.sqlite import SqliteLog
from tests.log import crash_child
from tests.log.support import running
from tests.support.forking import fork

CHILD, NEEDS = crash_child.__name__, (SqliteLog.__module__,)
PUBLISHERS = 12
ANSWERS_BEFORE_KILL = (1, 40, 333, 1_000)  # a kill at the first commit, and in full swing


def run_and_kill(path: Path, starts: list[int], answers: int) -> list[tuple[int, int, int]]:
    """Let a child publish, kill it after so many answers; returns (publisher, message, offset) of all it had."""
    said, its_output = os.pipe()
    with os.fdopen(said, "rb") as output:
        child = fork(CHILD, str(path), json.dumps(dict(enumerate(starts))), stdin=0, stdout=its_output, needs=NEEDS)
        os.close(its_output)
        lines = [output.readline() for _ in range(answers)]
        child.kill()
        lines += output.readlines()
        child.wait()
    assert all(line.endswith(b"\n") for line in lines), "the child ended by itself"
    return [(int(publisher), int(message), int(offset)) for publisher, message, offset in map(bytes.split, lines)]


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
async def test_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    starts = [0] * PUBLISHERS
    acknowledged: dict[tuple[int, int], int] = {}
    for answers in ANSWERS_BEFORE_KILL:
        for publisher, message, offset in run_and_kill(path, starts, answers):
            assert (publisher, message) not in acknowledged, "acknowledged twice"
            acknowledged[publisher, message] = offset
            starts[publisher] = message + 1
        rooms = await read_all(path)
        order: defaultdict[int, list[int]] = defaultdict(list)
        stored: dict[tuple[int, int], int] = {}
        for room, records in rooms.items():
            assert [record.offset for record in records] == list(range(1, len(records) + 1)), f"a hole in {room}"
            for record in records:
                publisher, message = int(record.user_id.removeprefix("u_")), int(record.text)
                order[publisher].append(message)
                stored[publisher, message] = record.offset
        assert acknowledged.items() <= stored.items(), "an acknowledged message is lost or has moved"
        for messages in order.values():
            assert messages == list(range(len(messages))), "stored twice, or out of order"
        # At most one message each was on its way, so no more than that may be stored without an answer.
        assert len(stored) - len(acknowledged) <= PUBLISHERS
    assert len(acknowledged) >= sum(ANSWERS_BEFORE_KILL)
