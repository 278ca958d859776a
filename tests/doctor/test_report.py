"""The form of the report, as in docs/nodes.md."""

import io

import pytest

from chatserver.doctor.facts import Delivery, Node, Report, Shards, Trouble
from chatserver.doctor.findings import conclude
from chatserver.doctor.report import print_report
from tests.support.tty import Tty
from tests.test_docs import DOCS, fences

URLS = ("http://10.0.0.11:8000", "http://10.0.0.12:8000")


def report() -> Report:
    nodes = [
        Node(
            url=url, version="0.1.0", log="postgresql", epoch="k3f9ab", shards=Shards(2, 2), clock_ms=clock,
            clock_error_ms=0.5, answer_ms=0.9, publish_ms=publish, messages_clock_ms=clock,
        )
        for url, clock, publish in zip(URLS, (0.4, -300_000.0), (4.7, 5.2), strict=True)
    ]  # fmt: skip
    times = {(0, 0): 5.1, (0, 1): 6.9, (1, 0): 7.4, (1, 1): 5.6}
    deliveries = [
        Delivery(
            sender=URLS[one], receiver=URLS[other], attempted=True, pushed_ms=ms, readable=True,
            present=True,
        )
        for (one, other), ms in times.items()
    ]  # fmt: skip
    return Report(ok=False, nodes=nodes, deliveries=deliveries, findings=conclude(nodes, deliveries))


def test_the_report_matches_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")  # of a terminal; this is a file
    [shown] = [text for _, text in fences(DOCS / "nodes.md", "console") if text.startswith("$ chatserver doctor http")]
    file = io.StringIO()
    print_report(report(), file)
    assert [line.rstrip() for line in file.getvalue().splitlines()] == shown.splitlines()[1:]


def test_texts_of_a_node_are_no_markup_and_move_no_cursor() -> None:
    """A text like `[/x]` must not be parsed as markup."""
    words = "[/x]\x1b[2J"
    nodes = [Node(url="a", version=words, log=words, epoch=words, trouble=Trouble.REFUSED, words=words)]
    file = io.StringIO()
    print_report(Report(ok=False, nodes=nodes, deliveries=[], findings=conclude(nodes, [])), file)
    assert file.getvalue().count(r"[/x]\x1b[2J") == 4
    assert "\x1b" not in file.getvalue()
    assert "acknowledged" not in file.getvalue(), "there is no table of messages if none was sent"


def test_a_node_is_ready_that_says_so_whatever_it_refuses() -> None:
    for trouble in Trouble:
        file = io.StringIO()
        nodes = [Node(url="a", trouble=trouble, answer_ms=1.0), Node(url="b", trouble=trouble)]
        print_report(Report(ok=False, nodes=nodes, deliveries=[], findings=[]), file)
        said_so, did_not = (line.split()[2] for line in file.getvalue().splitlines()[1:3])
        assert (said_so, did_not) == ("no" if trouble is Trouble.NOT_READY else "yes", "no")


def test_a_terminal_has_colours_and_may_be_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Tty()
    print_report(report(), file)
    lines = file.getvalue().splitlines()
    assert any("\x1b[" in line for line in lines)
    assert [line for line in lines if URLS[0] in line and "k3f9ab" in line and "+0.4 ms" in line], "not folded"
