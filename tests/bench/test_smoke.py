"""The benches run and give a figure, and verdicts and tables are right.

The figures are not checked, since the machine is busy with the tests.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from shutil import which

import pytest

from tests.bench import __main__ as bench
from tests.bench import clients, processes, report
from tests.bench.figures import Plot, Result, Scale, Verdict, at_least, at_most
from tests.bench.instructions import Counted
from tests.bench.plot import Line, Panel, svg
from tests.bench.processes import Process, chatserver, peer
from tests.bench.publishers import Publisher, publishing
from tests.e2e.browser import find_chromium

LOWER = at_most("lower", " B", bound=10, aim=5)
HIGHER = at_least("higher", "%", bound=5, aim=10)


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with chatserver() as running:
        yield running


@pytest.mark.parametrize(
    "name",
    [
        "handshakes", "publish", "mixed", "costly", "pipeline", "search",
        pytest.param("page", marks=pytest.mark.skipif(find_chromium() is None, reason="no Chromium here")),
    ],
)  # fmt: skip
def test_a_bench_runs_and_gives_figures(name: str, server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server that they start one is enough for all."""
    module = import_module(f"tests.bench.{name}")
    if hasattr(module, "chatserver"):
        monkeypatch.setattr(module, "chatserver", lambda *flags: nullcontext(server))
    results = list(bench.run(name, Scale.QUICK))
    assert results
    assert all(isinstance(result, Result) and result.value > 0 for result in results)


#: A server in as few instructions as possible, since each takes fifty times as long there.
ECHO = "echo listening on http://127.0.0.1:1; while read line; do echo $line; done"


@pytest.mark.skipif(which("valgrind") is None, reason="no valgrind here")
def test_instructions_are_counted(tmp_path: Path) -> None:
    counted = Counted(str(tmp_path))

    def say(times: int) -> int:
        for number in range(times):
            other.tell(str(number))
            assert other.hear() == str(number)
        return 1

    with processes.running([*counted.under, "sh", "-c", ECHO], tmp_path) as other:
        one, hundred = (counted.count(other, partial(say, times)) for times in (1, 100))
    assert 10 * one < hundred < 1000 * one


def test_a_verdict_compares_with_bound_and_aim() -> None:
    for figure, value, verdict in (
        (LOWER, 5, Verdict.AIM), (LOWER, 10, Verdict.BOUND), (LOWER, 11, Verdict.SHORT),
        (HIGHER, 10, Verdict.AIM), (HIGHER, 5, Verdict.BOUND), (HIGHER, 4, Verdict.SHORT),
    ):  # fmt: skip
        assert Result(figure=figure, samples=[value]).verdict is verdict


def test_what_a_peer_keeps_in_a_folder_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run left the database of one that is ended by a signal."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with peer("websockets_durable"):
        assert list(tmp_path.rglob("log.db"))
    assert not list(tmp_path.iterdir())


def test_a_server_that_never_answers_fails_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more clients than the window, the bench must not wait for ever."""
    monkeypatch.setattr(clients, "STUCK", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        clients.Crowd(listening.getsockname()) as crowd,
        pytest.raises(TimeoutError, match="1 clients got no answer"),
    ):
        crowd.open(2, [clients.Step(b"hello", b"hello")], None, window=1)


def test_a_publish_without_an_acknowledgement_fails_the_bench_with_the_answer() -> None:
    """The bench only said that publishes were not acknowledged."""
    for answer, error in (
        (b'\x81\x21{"type":"error","id":2,"code":""}', 'refused: {"type":"error","id":2,"code":""}'),
        (b"\x81\x05{", r"1 of 1 publishes were not acknowledged in 0.1 s .* received b'\\x81\\x05{'"),
    ):
        with socket.create_server(("127.0.0.1", 0)) as listening, clients.Crowd(listening.getsockname()) as crowd:
            publisher = Publisher(b"publish")
            publishers = crowd.open(1, [], publisher)
            with (
                listening.accept()[0] as server, pytest.raises((RuntimeError, TimeoutError), match=error),
                publishing(crowd, publisher, publishers, patience=0.1),
            ):  # fmt: skip
                server.sendall(answer)


def test_a_report_has_the_samples_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result(figure=LOWER, samples=[4, 6, 9], details="measured by hand")
    report.show([result])
    assert "| lower | 6 (4-9) B | ≤ 10 B | ≤ 5 B | OK | measured by hand |" in capsys.readouterr().out
    report.write_json([result], tmp_path / "results.json")
    (record,) = json.loads((tmp_path / "results.json").read_text())
    assert (record["value"], record["verdict"]) == (6, "OK")


def test_plots_are_written_into_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result(figure=LOWER, samples=[4])
    monkeypatch.setattr(bench, "run", lambda name, scale: iter([result, Plot("curve", "<svg/>")]))
    assert bench.measure(["drawn"], Scale.QUICK, None) == [result]
    assert bench.measure(["drawn"], Scale.QUICK, tmp_path / "plots") == [result]
    assert [file.name for file in (tmp_path / "plots").iterdir()] == ["curve.svg"]
    assert "lower: 4 B" in capsys.readouterr().err


def test_a_plot_has_all_points_in_their_places() -> None:
    lines = [Line("one", [(1, 0), (10, 50), (100, 100)]), Line("two", []), Line("a & b", [(100, 25)])]
    drawn = svg("a plot", [Panel("up", "across", lines, steps=True)])
    assert 'd="M0.0 150.0L180.0 75.0L360.0 0.0"' in drawn
    assert "a &amp; b" in drawn
    assert drawn.count('class="mark s1"') == 3 + 1  # one is in the key
    with pytest.raises(ValueError, match="7 lines, and 6 colours"):
        svg("too many", [Panel("up", "across", [Line(str(number), []) for number in range(7)])])
