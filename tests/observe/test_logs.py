import errno
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import structlog

from chatserver.observe import logs
from chatserver.settings.forms import LogFormat

LONG = "x" * 100_000  # more than a pipe holds


@contextmanager
def capture(log_format: LogFormat = LogFormat.JSON, *, quiet: bool = False) -> Iterator[list[str]]:
    """Log into a pipe; the lines are in the list after the block."""
    reader, writer = os.pipe()
    lines: list[str] = []
    try:
        with logs.configured(log_format, quiet=quiet, descriptor=writer):
            yield lines
    finally:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as file:
            lines.extend(file.read().splitlines())


@contextmanager
def reading(reader: int, descriptor: int, writer: logs.Writer) -> Iterator[list[str]]:
    """Read the pipe from now on; the lines are in the list after the block."""
    lines: list[str] = []
    with os.fdopen(reader, encoding="utf-8") as file:
        thread = threading.Thread(target=lambda: lines.extend(file.read().splitlines()))
        thread.start()
        yield lines
        writer.close(patience=60)
        assert "log writer" not in [each.name for each in threading.enumerate()], "its last lines are written"
        os.close(descriptor)
        thread.join()


def test_in_a_pipe_json_has_event_level_time_and_fields() -> None:
    for log_format in (LogFormat.JSON, LogFormat.AUTO):
        with capture(log_format) as lines:
            structlog.get_logger().info("closed", reason="flood", count=3)
        record = json.loads(lines[0])
        assert record.pop("timestamp").endswith("Z")
        assert record == {"event": "closed", "level": "info", "reason": "flood", "count": 3}


@pytest.mark.parametrize(
    ("log_format", "variables", "pattern"),
    [
        (LogFormat.AUTO, {}, rb"\x1b\[.*\d\d:\d\d:\d\d\.\d{6}\x1b.*hello"),
        (LogFormat.AUTO, {"NO_COLOR": ""}, rb"\x1b\[.*hello"),
        (LogFormat.AUTO, {"NO_COLOR": "1"}, rb"^\d\d:\d\d:\d\d\.\d{6} [^\x1b]* hello [^\x1b]*room=lobby[^\x1b]*$"),
        (LogFormat.JSON, {}, rb'^{[^\x1b]*"event": "hello"'),
    ],
)
def test_a_terminal_gets_pretty_lines_in_colours_unless_told_otherwise(
    log_format: LogFormat, variables: dict[str, str], pattern: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal, ours = os.openpty()
    try:
        with logs.configured(log_format, quiet=False, descriptor=ours):
            structlog.get_logger().info("hello", room="lobby")
        shown = os.read(terminal, 1000)
        assert re.search(pattern, shown), shown
    finally:
        os.close(ours)
        os.close(terminal)


def test_pretty_escapes_control_characters_and_keeps_words() -> None:
    with capture(LogFormat.PRETTY) as lines:
        structlog.get_logger().info("joined\nfake line", name="Jörg\x1b[2J\u202e", count=3)
    (line,) = lines
    assert r"joined\nfake line" in line
    assert "Jörg" in line
    assert "\x1b" not in line
    assert "\u202e" not in line
    assert "x1b[2J" in line  # visible to the operator
    assert "count=3" in line


def test_a_traceback_is_one_line_of_json_and_many_pretty_ones() -> None:
    for log_format in (LogFormat.JSON, LogFormat.PRETTY):
        with capture(log_format) as lines:
            try:
                raise ValueError("bad\x1b[2J")  # as a peer may send it
            except ValueError:
                structlog.get_logger().exception("failed")
        if log_format is LogFormat.PRETTY:
            assert len(lines) > 3
            assert lines[-1] == r"ValueError: bad\x1b[2J"
        else:
            [line] = lines
            assert json.loads(line)["exception"].endswith("ValueError: bad\x1b[2J")


def test_quiet_leaves_warnings_and_errors() -> None:
    """Also the count of those left out: a full disk refused thousands of messages, and the log had a few lines."""
    limiter, log = logs.Limiter(per_second=1), structlog.get_logger()
    with capture(quiet=True) as lines:
        for write, event in ((log.info, "no"), (log.warning, "yes")):
            for _ in range(3):
                limiter.write(write, event, reason="why")
        limiter.report()
    assert [(json.loads(line)["event"], json.loads(line).get("left_out")) for line in lines] == [
        ("yes", None),
        ("yes", 2),
    ]


def test_library_warnings_go_the_same_way() -> None:
    with capture() as lines:
        logging.getLogger("somebody").warning("careful: %d", 7)
    assert json.loads(lines[0])["event"] == "careful: 7"
    assert json.loads(lines[0])["logger"] == "somebody"


@pytest.mark.parametrize(("is_journal", "starts"), [(True, ["<6>{", "<4>{", "<3>{"]), (False, ["{", "{", "{"])])
def test_in_the_journal_of_systemd_a_line_begins_with_its_priority(
    is_journal: bool, starts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `journalctl -p err` finds nothing: all lines have the priority of standard error, info."""
    reader, writer = os.pipe()
    status = os.fstat(writer)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino + (not is_journal)}")
    with logs.configured(LogFormat.JSON, quiet=False, descriptor=writer):
        log = structlog.get_logger()
        for write in (log.info, log.warning, log.error):
            write("hello")
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        lines = file.read().splitlines()
    assert [line.partition('"')[0] for line in lines] == starts


def test_a_logger_made_before_is_not_bound_to_a_closed_writer() -> None:
    log, handlers = structlog.get_logger(), list(logging.getLogger().handlers)
    with capture() as first:
        log.info("one")
    with capture() as second:
        log.info("two")
    assert [len(first), len(second)] == [1, 1]
    assert not structlog.is_configured()
    assert logging.getLogger().handlers == handlers


def test_a_full_pipe_drops_and_counts_lines_without_waiting() -> None:
    """Without a reader the thread blocks in its write, and the caller does not."""
    reader, descriptor = os.pipe()
    writer = logs.Writer(descriptor, capacity=10)
    for _ in range(50):
        writer.put(LONG)
    assert writer.dropped >= 30  # 10 queued, one being written, perhaps a report
    writer.close(patience=0.01)
    with reading(reader, descriptor, writer) as read:
        pass
    assert sum(line == LONG or json.loads(line)["count"] for line in read) == 50, "the rest is told at the end"


def test_the_count_of_dropped_lines_is_written_when_there_is_room() -> None:
    reader, descriptor = os.pipe()
    writer = logs.Writer(descriptor, capacity=2)
    for _ in range(10):
        writer.put(LONG)
    tried = 10
    with reading(reader, descriptor, writer) as read:
        while writer.dropped:
            writer.put("after")
            tried += 1
    reports = [json.loads(line) for line in read if "dropped" in line]
    assert {tuple(report) for report in reports} == {("count", "event", "level", "timestamp")}, "as each line has them"
    assert sum(report["count"] for report in reports) == tried - sum(line.startswith(("x", "after")) for line in read)
    assert read[-1] == "after"


def test_a_non_blocking_descriptor_loses_nothing() -> None:
    reader, descriptor = os.pipe()
    os.set_blocking(descriptor, False)
    writer = logs.Writer(descriptor)
    for _ in range(5):
        writer.put(LONG)
    with reading(reader, descriptor, writer) as read:
        pass
    assert read == [LONG] * 5


def test_a_closed_pipe_is_no_error() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = logs.Writer(descriptor)
    for _ in range(5):
        writer.put("into the void")
    writer.close()
    os.close(descriptor)


def test_without_a_thread_the_program_ends_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that allows one process was told by a traceback."""
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    with pytest.raises(SystemExit, match="chatserver: no thread for log lines: can't start new thread"):
        logs.Writer(1)


def test_a_disk_that_was_full_is_written_to_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about a full disk often go to the same disk; a failed write must not end all logging."""
    really_write = os.write

    def write(descriptor: int, data: memoryview) -> int:
        if b"the disk is full" in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return really_write(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    with capture() as lines:
        structlog.get_logger().warning("the disk is full")
        structlog.get_logger().warning("room again")
    assert [json.loads(line)["event"] for line in lines] == ["room again"]


def test_lines_per_second_are_limited_and_the_others_counted() -> None:
    written: list[dict[str, Any]] = []

    def write(event: str, **fields: object) -> None:
        written.append({"event": event, **fields})

    limiter = logs.Limiter(per_second=2)
    for peer in range(1000):
        limiter.write(write, "closed", reason="flood", peer=peer)
    for _ in range(2):
        limiter.write(write, "closed", reason="head-deadline")
    assert [line.get("peer") for line in written] == [0, 1, None, None], "each reason has its own share"
    written.clear()
    limiter.report()
    limiter.report()
    assert written == [{"event": "closed", "reason": "flood", "left_out": 998}]
    limiter.write(write, "closed", reason="flood", peer=5)
    assert written[1:] == [{"event": "closed", "reason": "flood", "peer": 5}]
