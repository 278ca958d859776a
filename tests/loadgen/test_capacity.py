"""The search for a capacity, with trials that the test decides, and two that are played."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import trio

from loadgen.capacity import Capacity, Of, Search, capacity, trial_of
from loadgen.net.target import Page, TargetDownError
from loadgen.report.conditions import Condition
from loadgen.report.schema import Outcome, Report, Verdict, verdict
from loadgen.run.experiment import Experiment
from loadgen.run.player import Player
from loadgen.run.preflight import InvalidRunError
from loadgen.run.session import Plan
from tests.loadgen import reports
from tests.loadgen.planted import planted
from tests.loadgen.plants import Plant
from tests.loadgen.plays import plan
from tests.loadgen.readings import NOBODY
from tests.loadgen.stage import answering

SHORT, LATE = verdict(Outcome.FELL_SHORT, ["held is 18 (held<20)"]), verdict(Outcome.INVALID, ["300 ms late"])
STOPPED = verdict(Outcome.INTERRUPTED, ["stopped"])


def _told(ends: Verdict, is_so: bool = True) -> Report:
    """The report of a trial that ends with this, or that the target holds."""
    report = reports.run()
    report.verdict = ends if is_so else report.verdict
    return report


def _trial(limit: int, *, generator: int = 1_000_000) -> Callable[[int], Awaitable[Report]]:
    """A target that holds so many, and a generator that manages so many."""

    async def play(size: int) -> Report:
        return _told(LATE if size > generator else SHORT, size > min(limit, generator))

    return play


@pytest.mark.parametrize("limit", [1, 7, 99, 100, 101, 1234, 5000])
async def test_what_is_found_is_within_the_precision(limit: int) -> None:
    search = Search(first=100, most=100_000, precision=0.1)
    assert await search.run(_trial(limit)) is None
    assert search.fell_short is not None
    assert search.held <= limit < search.fell_short
    assert search.fell_short - search.held <= max(0.1 * search.held, 1)
    assert len(search.trials) <= 16


@pytest.mark.parametrize(
    ("search", "limit", "found", "sizes"),
    [
        (Search(first=8, most=100, precision=0.1), 0, (0, 1), [8, 4, 2, 1, 1]),  # nothing holds
        (Search(first=30, most=100, precision=0.1), 1_000, (100, None), [30, 60, 100]),  # no more than was said
        (Search(first=30, most=10, precision=0.1), 1_000, (10, None), [10]),
    ],
)
async def test_the_ends_of_a_search(
    search: Search, limit: int, found: tuple[int, int | None], sizes: list[int]
) -> None:
    assert await search.run(_trial(limit)) is None
    assert (search.held, search.fell_short) == found
    assert [size for size, _ in search.trials] == sizes


async def test_one_disturbance_of_this_machine_does_not_end_it() -> None:
    """Of two runs beside each other's load one found 400 and the other 50."""
    sound, tried = _trial(45), []

    async def disturbed(size: int) -> Report:
        tried.append(size)
        return await _trial(45, generator=0)(size) if len(tried) == 3 else await sound(size)

    search = Search(first=10, most=1_000, precision=0.1)
    assert await search.run(disturbed) is None
    assert (search.held, search.fell_short) == (45, 47)
    assert tried[:4] == [10, 20, 40, 40]


@pytest.mark.parametrize("false", range(4))
async def test_one_false_fall_does_not_end_it(false: int) -> None:
    """Of searches in which one trial of fifty fell short for nothing, one in seven ended far too low."""
    sound, tried = _trial(45), []

    async def disturbed(size: int) -> Report:
        tried.append(size)
        return _told(SHORT) if len(tried) == false + 1 else await sound(size)

    search = Search(first=10, most=1_000, precision=0.1)
    assert await search.run(disturbed) is None
    assert search.held <= 45 < (search.fell_short or 0) <= 1.1 * search.held
    assert len(tried) <= 14


@pytest.mark.parametrize(("again", "ends", "most_tried"), [(LATE, None, 3), (STOPPED, STOPPED, 2)])
async def test_a_fall_that_cannot_be_confirmed_stands(again: Verdict, ends: Verdict | None, most_tried: int) -> None:
    """But Ctrl-C meanwhile is the end of the search, not of the target."""
    tried: list[int] = []

    async def otherwise(size: int) -> Report:
        tried.append(size)
        return _told(again if tried.count(size) > 1 else SHORT, is_so=size > 10)

    search = Search(first=10, most=11, precision=0.1)
    ended = await search.run(otherwise)
    assert (ended and ended.verdict) == ends
    assert (search.held, search.fell_short, tried) == (10, 11, [10] + [11] * most_tried)


async def test_a_target_that_dies_before_a_trial_is_tried_again_leaves_the_first_result() -> None:
    trials = iter([_told(LATE), None])

    async def play(_: int) -> Report | None:
        return next(trials)

    search = Search(first=10, most=100, precision=0.1)
    ended = await search.run(play)
    assert ended is not None
    assert [(size, report.verdict) for size, report in search.trials] == [(10, ended.verdict)] == [(10, LATE)]


@pytest.mark.parametrize("protocol", ["chat", "http", "ws-echo"])
def test_what_is_tried(protocol: str) -> None:
    for size in (1, 3, 100):  # five speakers came beside them: "not even 3: held is 7 (held<8)"
        idle = trial_of(Of.IDLE, protocol, size, 2.0)
        assert idle.clients == size
        assert any(persona.speaks and number for persona, number in idle.groups[0].counts.items())
    messages = trial_of(Of.MESSAGES, protocol, 200, 2.0)
    assert (messages.phases[-1].rate, messages.groups[0].size) == (200.0, 20)
    newcomers = trial_of(Of.NEWCOMERS, protocol, 30, 2.0)
    assert newcomers.probes is not None
    assert newcomers.probes.newcomers_per_s == 30
    assert not newcomers.compares, "they come before the load as well"


def _playing(
    monkeypatch: pytest.MonkeyPatch,
    play: Callable[[Plan, Experiment], Report],
    *,
    died: str = "",
    answered: bool = False,
) -> None:
    """Have each trial end as the test says, without a server."""

    async def cause_of_death(_: Plan) -> str:
        return died

    class Played(Player):
        async def play(self) -> Report:
            self.answered = answered
            return play(self._plan, self._experiment)

    monkeypatch.setattr("loadgen.capacity.Player", Played)
    monkeypatch.setattr("loadgen.capacity.cause_of_death", cause_of_death, raising=False)


@pytest.mark.parametrize(
    ("of", "conditions"),
    [
        (Of.IDLE, (Condition("held", "<", 10),)),
        (Of.NEWCOMERS, (Condition("newcomers_p99_ms", ">", 850),)),  # who make four round trips of 150 ms
        (Of.MESSAGES, ()),
    ],
)
async def test_a_trial_is_judged_by_what_is_looked_for(
    of: Of, conditions: tuple[Condition, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target on another continent had room for nobody: each newcomer took longer than 250 ms."""
    judged = []
    monkeypatch.setattr("loadgen.run.session.fetch", lambda *_: Page(200, 0.9, way_seconds=0.3))

    def play(plan: Plan, _: Experiment) -> Report:
        judged.append(plan.conditions)
        return reports.run()

    _playing(monkeypatch, play)
    await Capacity(plan(NOBODY), of, "http", Search(10, 10, 0.1), seconds=0.6).play()
    assert judged == [conditions]


LATE_AT_20 = "at 20 the target was not measured: 300 ms late"
ASKED = "capacity is 15 (capacity<1000)"


@pytest.mark.parametrize(
    ("ends", "first", "asked", "figures", "outcome", "reasons"),
    [
        (SHORT, 10, 0, (15, 20), Outcome.HELD, ["15 idle connections held", "at 20: held is 18 (held<20)"]),
        (SHORT, 10, 1_000, (15, 20), Outcome.FELL_SHORT,
         [ASKED, "15 idle connections held", "at 20: held is 18 (held<20)"]),
        # the limit of the generator was taken for the target's, which fell short
        (LATE, 15, 1_000, (15, None), Outcome.INVALID,
         [ASKED, "15 idle connections held", LATE_AT_20.replace("20", "30")]),
        (LATE, 10, 0, (10, None), Outcome.HELD, ["10 idle connections held", LATE_AT_20]),
        (STOPPED, 10, 0, (10, None), Outcome.INTERRUPTED, ["stopped"]),
        # nobody who gets in is a result only after fewer did
        (None, 10, 0, (15, 20), Outcome.HELD, ["15 idle connections held", "at 20: nobody was let in"]),
        (None, 20, 0, (None, None), Outcome.INVALID, ["nobody was let in"]),
    ],
)  # fmt: skip
async def test_a_capacity_is_found_and_judged(
    ends: Verdict | None,
    first: int,
    asked: int,
    figures: tuple[int | None, int | None],
    outcome: Outcome,
    reasons: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a target that holds fifteen."""

    def play(_: Plan, experiment: Experiment) -> Report:
        if ends is None and experiment.clients > 15:
            raise InvalidRunError("nobody was let in")
        return _told(ends or SHORT, experiment.clients > 15)

    _playing(monkeypatch, play, answered=True)
    where = plan(NOBODY, conditions=(Condition("capacity", "<", asked),))
    report = await Capacity(where, Of.IDLE, "http", Search(first, 40, 0.5), seconds=0.6).play()
    assert (report.figures["capacity"], report.figures["fell_short_at"]) == figures
    assert (report.outcome, report.verdict.reasons) == (outcome, reasons)
    assert report.tables[0].rows[0][:2] == [f"{first}", "invalid" if first == 20 else "held"]


async def test_a_target_that_holds_all_is_told_that_no_more_were_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _playing(monkeypatch, lambda *_: reports.run())
    report = await Capacity(plan(NOBODY), Of.IDLE, "http", Search(10, 20, 0.1), seconds=0.6).play()
    assert report.verdict.reasons == ["20 idle connections held", "no more were tried (--most)"]


async def test_a_search_ends_with_the_size_of_which_the_server_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went on without a server: 103 connections were said to be too many, or the generator to be the limit."""
    died = verdict(Outcome.FELL_SHORT, ["the server died"])
    _playing(monkeypatch, lambda _, experiment: _told(died, experiment.clients > 15), died="nothing listens")
    report = await Capacity(plan(NOBODY), Of.IDLE, "http", Search(10, 40, 0.1), seconds=0.6).play()
    assert report.verdict.reasons == ["10 idle connections held", "at 20: the server died"]
    assert [row[0] for row in report.tables[0].rows] == ["10", "20"]


async def test_a_generator_that_is_late_below_a_size_that_fell_short_is_named_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was invalid, and that the target had failed at twenty was not said."""
    _playing(monkeypatch, lambda _, experiment: _told(SHORT if experiment.clients == 20 else LATE))
    report = await Capacity(plan(NOBODY), Of.IDLE, "http", Search(20, 40, 0.1), seconds=0.6).play()
    told = ["not even 20 idle connections: held is 18 (held<20)", LATE_AT_20.replace("20", "10")]
    assert (report.outcome, report.verdict.reasons) == (Outcome.FELL_SHORT, told)


@pytest.mark.parametrize(
    ("first", "answered", "outcome", "reasons", "tried"),
    [
        (10, False, Outcome.HELD,
         ["10 idle connections held", "at 20: held is 18 (held<20); after that it answered nobody any more"],
         ["10", "20"]),
        (20, False, Outcome.FELL_SHORT,
         ["not even 20 idle connections: held is 18 (held<20); after that it answered nobody any more"], ["20"]),
        # one that answers is only too busy for so many
        (20, True, Outcome.FELL_SHORT, ["not even 1 idle connections: nobody was let in"],
         ["1", "1", "2", "5", "10", "20"]),
        (10, True, Outcome.HELD, ["10 idle connections held", "at 11: nobody was let in"],
         ["10", "11", "11", "12", "15", "20"]),
    ],
)  # fmt: skip
async def test_a_search_ends_with_the_size_after_which_the_server_answers_nobody(
    first: int, answered: bool, outcome: Outcome, reasons: list[str], tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was stopped was said to hold too few, for minutes, or to be another kind of server."""
    fell_short: list[Experiment] = []

    def play(_: Plan, experiment: Experiment) -> Report:
        if fell_short:
            raise InvalidRunError("nobody was let in")
        fell_short.extend([experiment] * (experiment.clients > 15))
        return _told(SHORT, bool(fell_short))

    _playing(monkeypatch, play, answered=answered)
    report = await Capacity(plan(NOBODY), Of.IDLE, "http", Search(first, 40, 0.1), seconds=0.6).play()
    assert (report.outcome, report.verdict.reasons) == (outcome, reasons)
    assert [row[0] for row in report.tables[0].rows] == tried


@pytest.mark.parametrize(("served", "tried"), [(0.0, ["20"]), (9.5, ["10", "11", "11", "12", "15", "20"])])
async def test_a_target_that_answers_nobody_is_tried_once(
    served: float, tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was halved down to a single connection, for 98 s. A server of WebSockets alone does not answer the GET."""

    def play(_: Plan, experiment: Experiment) -> Report:
        report = _told(SHORT, experiment.clients > 10 or not served)
        report.figures |= {"messages_per_s": served}
        return report

    _playing(monkeypatch, play)
    report = await Capacity(plan(NOBODY), Of.IDLE, "http", Search(20, 40, 0.1), seconds=0.6).play()
    assert [row[0] for row in report.tables[0].rows] == tried
    assert report.outcome is (Outcome.HELD if served else Outcome.FELL_SHORT)


@pytest.mark.parametrize("of", Of)
async def test_a_server_that_is_no_chat_is_told_how_to_be_measured(of: Of) -> None:
    """It was told to say --mix and --victim, which this command refuses."""

    async def serve(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # clients leave in the middle of an answer
            while await stream.receive_some():
                await stream.send_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

    async with answering(serve) as port:
        where = plan(f"http://127.0.0.1:{port}")
        report = await Capacity(where, of, "chat", Search(1, 1, 0.1), seconds=0.6).play()
    assert report.outcome is Outcome.INVALID
    assert "of capacity --protocol http or ws-echo" in report.verdict.reasons[0]


async def test_which_condition_gave_way_is_said() -> None:
    with planted(Plant(page=500)) as server:
        report = await Capacity(plan(server.url), Of.MESSAGES, "http", Search(1, 8, 0.1), seconds=0.6).play()
    assert report.outcome is Outcome.FELL_SHORT
    assert report.verdict.reasons[0].startswith("not even 1 messages a second: message_errors is ")
    assert report.figures == {"capacity": None, "fell_short_at": 1}


async def test_idle_connections_that_the_server_ends_are_not_held() -> None:
    """A web server that ends the oldest above eight was said to hold twenty: they reconnected."""
    kept: list[trio.SocketStream] = []

    async def serve(stream: trio.SocketStream) -> None:
        kept.append(stream)
        if len(kept) > 8:
            trio.lowlevel.notify_closing(kept[0].socket)
            kept.pop(0).socket.close()
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while await stream.receive_some():
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    async with answering(serve) as port:
        search = Search(20, 20, 0.1, held=19)  # one trial ends it
        await Capacity(plan(f"http://127.0.0.1:{port}"), Of.IDLE, "http", search, seconds=0.6).play()
    (_, report), _ = search.trials
    assert report.outcome is Outcome.FELL_SHORT, report.verdict
    # Eight, or more where the crowd has not read yet that others were ended.
    assert any(reason.endswith(" (held<20)") for reason in report.verdict.reasons), report.verdict


@pytest.mark.parametrize("of", Of)
def test_without_flags_a_usual_machine_is_enough(of: Of, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 newcomers a second wait for five seconds each: with 20,000 descriptors the command was refused."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (20_000, 20_000))
    with pytest.raises(TargetDownError):
        capacity("http://127.0.0.1:1", of=of)


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name of its base
        """Say nothing."""


class _OneByOne(HTTPServer):
    """It reads a connection until that has a request, and serves no other meanwhile."""

    request_queue_size = 64


async def test_a_server_that_serves_one_connection_at_a_time_holds_no_idle_ones() -> None:
    """Requests came in the order of connections: gunicorn's sync worker held 400 that were in the backlog."""
    size = 20
    tried = replace(trial_of(Of.IDLE, "http", size, 0.5), drain_seconds=0.1)
    with _OneByOne(("127.0.0.1", 0), _Page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        report = await Player(plan(url, conditions=(Condition("held", "<", size),)), tried).play()
        server.shutdown()
        thread.join()
    assert report.figures["held"] == size, "in its backlog"
    assert report.figures["unacknowledged"]
    assert report.outcome is Outcome.FELL_SHORT
