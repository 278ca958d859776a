import errno
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

from chatserver.observe import logs
from chatserver.settings.forms import LogFormat


@contextmanager
def capture(log_format: LogFormat = LogFormat.JSON, *, quiet: bool = False) -> Iterator[tuple[logs.Writer, list[str]]]:
    """Log into a pipe; the lines are in the list after the block."""
    reader, writer = os.pipe()
    lines: list[str] = []
    try:
        with logs.configured(log_format, quiet=quiet, descriptor=writer) as sink:
            yield sink, lines
    finally:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            lines.extend(file.read().splitlines())


def test_json_has_event_level_time_and_fields() -> None:
    with capture() as (_, lines):
        structlog.get_logger().info("closed", reason="flood", count=3)
    record = json.loads(lines[0])
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "closed", "level": "info", "reason": "flood", "count": 3}


def test_a_pipe_is_no_terminal_so_auto_means_json() -> None:
    with capture(LogFormat.AUTO) as (_, lines):
        structlog.get_logger().info("hello")
    assert json.loads(lines[0])["event"] == "hello"


def test_a_terminal_gets_pretty_lines() -> None:
    terminal, ours = os.openpty()
    try:
        with logs.configured(LogFormat.AUTO, quiet=False, descriptor=ours):
            structlog.get_logger().info("hello", room="lobby")
        assert b"\x1b[" in os.read(terminal, 1000)
    finally:
        os.close(ours)
        os.close(terminal)


def test_pretty_escapes_what_would_drive_a_terminal_and_leaves_words_alone() -> None:
    with capture(LogFormat.PRETTY) as (_, lines):
        structlog.get_logger().info("joined", name="Jörg\x1b[2J\nfake line\u202e")
    (line,) = lines
    assert "Jörg" in line
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert "x1b[2J" in line  # visible, so that the operator sees what somebody tried


def test_pretty_keeps_the_lines_of_a_traceback() -> None:
    with capture(LogFormat.PRETTY) as (_, lines):
        try:
            raise ValueError("bad")
        except ValueError:
            structlog.get_logger().exception("failed")
    assert lines[-1] == "ValueError: bad"
    assert len(lines) > 3


def test_json_traceback_is_one_line() -> None:
    with capture() as (_, lines):
        try:
            raise ValueError("bad")
        except ValueError:
            structlog.get_logger().exception("failed")
    assert len(lines) == 1
    assert json.loads(lines[0])["exception"].endswith("ValueError: bad")


def test_quiet_leaves_warnings_and_errors() -> None:
    with capture(quiet=True) as (_, lines):
        structlog.get_logger().info("no")
        structlog.get_logger().warning("yes")
    assert [json.loads(line)["event"] for line in lines] == ["yes"]


def test_library_warnings_go_the_same_way() -> None:
    with capture() as (_, lines):
        logging.getLogger("somebody").warning("careful: %d", 7)
    assert json.loads(lines[0])["event"] == "careful: 7"
    assert json.loads(lines[0])["logger"] == "somebody"


def test_a_logger_made_before_is_not_bound_to_a_closed_writer() -> None:
    log = structlog.get_logger()
    with capture() as (_, first):
        log.info("one")
    with capture() as (_, second):
        log.info("two")
    assert [len(first), len(second)] == [1, 1]


def test_a_full_pipe_drops_and_counts_and_never_waits() -> None:
    """Nobody reads: the thread is stuck in its write, the caller is not."""
    reader, descriptor = os.pipe()
    writer = logs.Writer(descriptor, capacity=10)
    line = "x" * 100_000  # more than a pipe holds
    for _ in range(50):
        writer.put(line)
    assert writer.dropped >= 30  # 10 queued, one in the thread's hands, perhaps a report
    writer.close(patience=0.01)
    with os.fdopen(reader, encoding="utf-8") as file:
        drain = threading.Thread(target=file.read)
        drain.start()
        writer.close(patience=10)
        os.close(descriptor)
        drain.join()


def test_the_count_of_dropped_lines_is_written_when_there_is_room() -> None:
    reader, descriptor = os.pipe()
    writer = logs.Writer(descriptor, capacity=2)
    for _ in range(10):
        writer.put("x" * 100_000)
    tried = 10
    read: list[str] = []
    with os.fdopen(reader, encoding="utf-8") as file:
        drain = threading.Thread(target=lambda: read.extend(file.read().splitlines()))
        drain.start()
        while writer.dropped:
            writer.put("after")
            tried += 1
        writer.close(patience=10)
        os.close(descriptor)
        drain.join()
    counts = [json.loads(line)["count"] for line in read if "dropped" in line]
    assert sum(counts) == tried - sum(line.startswith(("x", "after")) for line in read)
    assert read[-1] == "after"


def test_a_reader_that_left_does_no_harm() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = logs.Writer(descriptor)
    for _ in range(5):
        writer.put("into the void")
    writer.close()
    os.close(descriptor)


def test_a_disk_that_was_full_is_written_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about a full disk often go to that very disk, and the first of them was the last of all."""
    really_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if b"the disk is full" in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with capture() as (_, lines):
        structlog.get_logger().warning("the disk is full")
        structlog.get_logger().warning("room again")
    assert [json.loads(line)["event"] for line in lines] == ["room again"]


def test_a_non_blocking_descriptor_loses_nothing() -> None:
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    writer = logs.Writer(descriptor)
    for _ in range(5):
        writer.put("x" * 100_000)
    read: list[str] = []
    with os.fdopen(reader, encoding="utf-8") as file:
        drain = threading.Thread(target=lambda: read.extend(file.read().splitlines()))
        drain.start()
        writer.close(patience=10)
        os.close(descriptor)
        drain.join()
    assert [len(line) for line in read] == [100_000] * 5


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def written() -> list[dict[str, object]]:
    return []


def test_limiter_lets_n_a_second_through_and_reports_the_rest(clock: Clock, written: list[dict[str, object]]) -> None:
    def write(event: str, **fields: object) -> None:
        written.append({"event": event, **fields})

    limiter = logs.Limiter(per_second=2, clock=clock)
    for peer in range(1000):
        limiter.write(write, "closed", reason="flood", peer=peer)
    assert [line["peer"] for line in written] == [0, 1]
    limiter.write(write, "closed", reason="head-deadline")
    assert len(written) == 3  # each reason has its own share

    clock.now = 1.0
    written.clear()
    limiter.write(write, "closed", reason="flood", peer=5)
    assert written == [{"event": "closed", "reason": "flood", "peer": 5, "left_out": 998}]


def test_limiter_reports_what_no_later_line_would(clock: Clock, written: list[dict[str, object]]) -> None:
    def write(event: str, **fields: object) -> None:
        written.append({"event": event, **fields})

    limiter = logs.Limiter(per_second=1, clock=clock)
    for _ in range(10):
        limiter.write(write, "closed", reason="flood")
    written.clear()
    limiter.report(write)
    assert written == []  # this second is not over
    clock.now = 1.0
    limiter.report(write)
    limiter.report(write)
    assert written == [{"event": "closed", "reason": "flood", "left_out": 9}]
