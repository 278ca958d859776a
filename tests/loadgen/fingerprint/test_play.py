"""A whole fingerprint of servers with known limits: exactly the planted limits are found.

In virtual time at the default patience and pace, so that the planted deadlines may be as long as real ones: server and
prober are tasks of one trio loop on loopback sockets, and nothing outside is waited for. If the clock jumps before the
kernel has delivered what was sent, the jump is at most LAG_EVERY_SECONDS long.
"""

import dataclasses
import re
import signal
import ssl

import pytest
import trio
from trio.testing import MockClock

from loadgen.fingerprint import play, site
from loadgen.fingerprint.found import Finding, Found, NoneSeen
from loadgen.fingerprint.practice import Mark, Probe
from loadgen.fingerprint.probes import ALONGSIDE, LIMITS, sizes
from loadgen.fingerprint.probes.sizes import Try, search
from loadgen.fingerprint.site import Options, Site
from loadgen.fingerprint.survey import survey
from loadgen.net import target
from loadgen.net.target import client_context
from loadgen.report.schema import Outcome
from tests.loadgen.fingerprint.plant import NEVER, Plant
from tests.loadgen.fingerprint.planted import planted
from tests.loadgen.fingerprint.plays import GOOD, SLACK, Rows, assert_near, fingerprint
from tests.support.certificates import server_context

#: The largest size that is looked for is so many times the first: beyond that, a search only takes longer.
WIDTH = 128


@pytest.fixture(autouse=True)
def short_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no limit, 130,000 fragments and 64 MiB would cost seconds of a processor."""

    async def narrowed(attempt: Try, *, first: int, most: int, until: float) -> Finding:
        return await search(attempt, first=first, most=min(most, WIDTH * first), until=until)

    monkeypatch.setattr("loadgen.fingerprint.probes.sizes.search", narrowed)


@pytest.fixture
def one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample, sizes by doubling alone, and the clock looked at less often: the rest is the first test's.

    What becomes of three samples is test_lies.py's and test_found.py's too, how sizes are halved test_sizes.py's.
    """
    monkeypatch.setattr(Probe, "samples", 1)
    monkeypatch.setattr(sizes, "_EXACT_BELOW", 0)
    monkeypatch.setattr(sizes, "_PART", 1)
    for module in (play, site):
        monkeypatch.setattr(module, "LAG_EVERY_SECONDS", SLACK / 2)


def only(monkeypatch: pytest.MonkeyPatch, *figures: str) -> None:
    """Play these probes alone."""
    probes = tuple(probe for probe in ALONGSIDE if probe.figure in figures)
    assert len(probes) == len(figures)
    for name in ("ALONGSIDE", "PROBES"):
        monkeypatch.setattr(play, name, probes)


@pytest.fixture
def few(one_look: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that stand for all where a test is about the course of a fingerprint."""
    only(
        monkeypatch, "first_byte_deadline_s", "head_deadline_s", "keepalive_deadline_s", "poll_hold_s",
        "ws_idle_deadline_s", "ws_pong_deadline_s", "ws_message_deadline_s",
    )  # fmt: skip


@pytest.mark.parametrize("token", ["", "Bearer abc"])
async def test_every_planted_limit_is_found(token: str, autojump_clock: MockClock) -> None:
    """Also of a server that answers nothing without a token: there was no way to give it one."""
    async with planted(dataclasses.replace(GOOD, token=token.encode())) as server:
        report = await fingerprint(server, (f"Authorization: {token}",) if token else (), connections=410)
    assert_near(
        report,
        first_byte_deadline_s=10, head_stall_deadline_s=10, head_deadline_s=10,
        body_stall_deadline_s=12, body_deadline_s=12, chunked_body_deadline_s=12, continue_deadline_s=12,
        keepalive_deadline_s=60, poll_hold_s=30, linger_deadline_s=2, ws_ping_s=25, ws_pong_deadline_s=10,
        ws_frame_stall_deadline_s=15, ws_frame_deadline_s=15, ws_message_deadline_s=20, ws_close_deadline_s=3,
        ws_goodbye_deadline_s=0,
        # sizes are found to the byte
        connections_per_address=400, head_bytes=16_384, field_bytes=16_384, head_fields=100, body_bytes=65_536,
        ws_message_bytes=16_384, ws_fragments=64,
        # and honest clients are served
        slow_typist_served=1, slow_poster_served=1, answers_meanwhile_percent=100, others_beside_crowd=1,
    )  # fmt: skip
    assert report.figures["ws_idle_deadline_s"] is None, "a member that answers pings is kept"
    assert 20 <= (report.figures["never_read_deadline_s"] or 0) < 22, "seen by the next request: a pace later at most"
    rows = Rows(report)
    for name, how in {
        "head, slowly": "a total deadline$", "head, stalled": "^408, FIN$", "connected, silent": "^FIN$",
        "Expect: 100-continue, silent": "^408 after 100, FIN$", "frame, stalled": "close 1008 'planted'",
        "WebSocket, no pong": ", after a ping at 25.0 s$", "others beside a silent crowd": "^200$",
    }.items():  # fmt: skip
        assert re.search(how, rows.how(name)), name
    assert {rows.mark(name) for name in rows.names()} == {"good"}
    assert (report.verdict.outcome, report.verdict.reasons) == ("held", [])
    assert not report.tables[1].rows, "no advice"
    assert report.figures.keys() == report.meanings.keys()


@pytest.mark.usefixtures("one_look")
async def test_what_is_not_there_is_not_seen(autojump_clock: MockClock) -> None:
    async with planted() as server:
        report = await fingerprint(server)
    rows = Rows(report)
    for name in ("connected, silent", "head, slowly", "body, stalled", "keep-alive", "WebSocket, silent"):
        assert rows.found(name) == "none seen within 105 s"
        assert rows.mark(name) == "missing"
    assert rows.found("head size") == "none seen up to 262,144 B"
    assert rows.found("fragments") == "none seen up to 256 fragments"
    assert rows.found("slow readers") == "none seen within 105 s"
    assert rows.mark("head, typed in 8 s") == rows.mark("WebSocket, only pongs") == "good"
    assert "WebSocket, no pong" not in rows.names(), "without a ping there is no pong to wait for"
    assert any("no ping came within 105 s: WebSocket, no pong" in note for note in report.tables[0].notes)
    assert report.figures["head_deadline_s"] is None
    assert report.outcome is Outcome.FELL_SHORT
    assert "missing: head, slowly (none seen within 105 s)" in report.verdict.reasons
    assert len(report.verdict.reasons) == report.figures["limits_missing"]


@pytest.mark.usefixtures("one_look")
async def test_what_hurts_the_honest_slow_is_harsh(autojump_clock: MockClock) -> None:
    plant = dataclasses.replace(GOOD, head_total=4, body_total=5, max_fragments=4, per_address=100, ping_every=2)
    async with planted(plant) as server:
        report = await fingerprint(server, connections=110, within=15.0)
    rows = Rows(report)
    harsh = {name for name in rows.names() if rows.mark(name) == "harsh"}
    assert harsh == {
        "connections from one address", "connected, silent", "head, stalled", "head, slowly", "head, typed in 8 s",
        "body at 3 KB/s", "WebSocket, silent", "fragments",
    }  # fmt: skip
    assert rows.how("head, typed in 8 s").startswith("408 after 4.0 s, and 200")
    assert {row[0] for row in report.tables[1].rows} == harsh
    assert report.outcome is Outcome.FELL_SHORT


@pytest.mark.usefixtures("one_look")
async def test_a_plain_server_is_probed_as_far_as_it_goes(autojump_clock: MockClock) -> None:
    async with planted(dataclasses.replace(GOOD, websocket=False, posts=False)) as server:
        report = await fingerprint(server, poll_path="/nothing?wait={wait}")
    rows = Rows(report)
    assert report.verdict.outcome == "held"
    assert not any("WebSocket" in name or "body" in name for name in rows.names())
    left_out = "\n".join(report.tables[0].notes)
    assert "/ws answers an upgrade with 404: message size; fragments; WebSocket, silent" in left_out
    assert "POST /post is answered 405 before the body; POST / is answered 405 before the body" in left_out
    assert "GET /nothing?wait={wait} is answered 404 at once: long-poll" in left_out
    assert report.figures["head_bytes"] == 16_384


@pytest.mark.usefixtures("few")
async def test_a_server_that_is_slow_beside_the_probes_holds_no_poll(autojump_clock: MockClock) -> None:
    """Its prompt answers took over a second then, so "long-poll" was harsh: users would ask every second."""
    async with planted(dataclasses.replace(GOOD, crowded=1.2)) as server:
        report = await fingerprint(server, poll_path="/?wait={wait}", within=15.0)
    assert "long-poll" not in Rows(report).names()
    assert report.verdict.outcome == "held"


@pytest.mark.parametrize(("says", "why"), [(b"", "reset"), (b"220 mail.example ESMTP\r\n", "the answer is no HTTP")])
async def test_a_server_that_answers_nothing(says: bytes, why: str, autojump_clock: MockClock) -> None:
    async with planted(Plant(resets=not says, says=says)) as server:
        report = await fingerprint(server)
    rows = Rows(report)
    assert rows.names() == {"connected, silent", "answers to plain requests"}
    assert rows.mark("connected, silent") == "harsh"
    assert rows.how("connected, silent").startswith(why if says else "RST")
    assert rows.mark("answers to plain requests") == "missing"
    assert any(f"GET / is not answered: {why}" in each for each in report.tables[0].notes)
    assert report.outcome is Outcome.FELL_SHORT


async def test_one_connection_at_a_time_is_said_and_not_measured(autojump_clock: MockClock) -> None:
    """Of gunicorn's deadline for a silent one, 30 s, the second and the third sample made 86: they had waited."""
    async with planted(Plant(at_once=1, keepalive=1, head_total=30)) as server:
        report = await fingerprint(server)
    assert Rows(report).found("connected, silent").startswith("30.0 s ±")
    notes = "\n".join(report.tables[0].notes)
    assert "one silent connection stops the server for all others" in notes
    assert "it serves one connection at a time" in notes
    assert "head, stalled" not in Rows(report).names()
    assert Rows(report).mark("answers to plain requests") == "missing"
    assert report.outcome is Outcome.FELL_SHORT


@pytest.mark.usefixtures("one_look")
async def test_deadlines_are_not_measured_once_nobody_is_served(autojump_clock: MockClock) -> None:
    """cheroot has ten threads and 10 s: "connected, silent: none seen within 98 s, missing", of its queue."""
    async with planted(dataclasses.replace(GOOD, at_once=10, head_idle=10, head_total=NEVER)) as server:
        report = await fingerprint(server, connections=20)
    rows = Rows(report)
    assert rows.mark("answers to plain requests") == "missing"
    assert report.verdict.reasons == [
        f"missing: {name} ({rows.found(name)})"
        for name in ("answers to plain requests", "others beside a silent crowd")
    ]
    [why] = [note for note in report.tables[0].notes if "stop the server for all others" in note]
    assert {"connected, silent", "keep-alive", "WebSocket, only pongs"} <= set(why.partition("queue: ")[2].split("; "))


@pytest.fixture
def others_had_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    waited = iter((0.0, 90.0))
    monkeypatch.setattr("loadgen.run.procfs.pressure", lambda: next(waited))


@pytest.mark.usefixtures("one_look", "others_had_the_processors")
async def test_nor_is_the_server_blamed_where_others_had_the_processors(autojump_clock: MockClock) -> None:
    """Beside 18 programs on two processors Twisted fell short: it missed two of 48 requests, both at the start."""
    async with planted(dataclasses.replace(GOOD, at_once=12, head_idle=10, head_total=NEVER)) as server:
        report = await fingerprint(server, connections=20)
    failed = ("answers to plain requests", "others beside a silent crowd", "keep-alive")
    assert [Rows(report).found(name) for name in failed] == ["failed"] * 3
    assert report.outcome is Outcome.INVALID


@pytest.mark.usefixtures("one_look", "others_had_the_processors")
async def test_other_programs_do_not_explain_that_nobody_is_answered_for_long(autojump_clock: MockClock) -> None:
    """cheroot, uwsgi, webfs and Starman, which slow clients do stop: the run was invalid on every busy machine."""
    async with planted(dataclasses.replace(GOOD, at_once=5, head_idle=30, head_total=NEVER)) as server:
        report = await fingerprint(server, connections=20)
    assert Rows(report).mark("answers to plain requests") == "missing"
    assert report.outcome is Outcome.FELL_SHORT


@pytest.mark.usefixtures("few", "others_had_the_processors")
async def test_other_programs_do_not_explain_an_answer_that_is_missing_beside_the_crowd_alone(
    autojump_clock: MockClock,
) -> None:
    """waitress on a busy machine: all plain requests were answered later, and the run was only invalid."""
    async with planted(dataclasses.replace(GOOD, at_once=60)) as server:
        report = await fingerprint(server, connections=80)
    assert report.verdict.reasons == ["missing: others beside a silent crowd (no)"]
    assert Rows(report).found("answers to plain requests") == "100%"


@pytest.mark.usefixtures("few")
async def test_a_server_that_dies_in_the_middle_has_no_deadlines(autojump_clock: MockClock) -> None:
    """All connections end at that moment, and each looked like a deadline of so many seconds."""
    async with planted(dataclasses.replace(GOOD, dies_after=30)) as server:
        report = await fingerprint(server)
    rows = Rows(report)
    assert_near(report, head_deadline_s=10, ws_message_deadline_s=20)
    for name in ("keep-alive", "WebSocket, only pongs", "WebSocket, no pong"):
        assert rows.found(name) == "failed"
        assert "the server died" in rows.how(name)
    assert report.outcome is Outcome.FELL_SHORT
    assert report.seconds < 60


@pytest.mark.usefixtures("few")
async def test_a_server_that_dies_at_once_has_none_either(autojump_clock: MockClock) -> None:
    """hypercorn on trio did when pings and messages met; all probes were decided before anybody looked again."""
    async with planted(Plant(dies_after=1.5)) as server:
        report = await fingerprint(server)
    rows = Rows(report)
    assert rows.found("connected, silent") == "failed"
    assert not [name for name in rows.names() if rows.mark(name) == "harsh"]


@pytest.mark.usefixtures("one_look")
async def test_deadlines_under_tls(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        "tls_stall_deadline_s": 11.0, "tls_deadline_s": 11.0, "first_byte_deadline_s": 10.0, "head_deadline_s": 10.0,
        "body_deadline_s": 12.0, "ws_pong_deadline_s": 10.0, "head_bytes": 16_384.0, "ws_message_bytes": 16_384.0,
    }  # fmt: skip
    only(monkeypatch, *limits)
    async with planted(dataclasses.replace(GOOD, tls=server_context(), tls_total=11)) as server:
        report = await fingerprint(server, within=40.0)
    assert client_context().verify_mode is ssl.CERT_NONE
    assert_near(report, **limits)
    assert report.verdict.outcome == "held"


@pytest.mark.usefixtures("few")
async def test_less_patience_leaves_undecided_what_good_servers_do_later(autojump_clock: MockClock) -> None:
    async with planted(GOOD) as server:
        report = await fingerprint(server, within=15.0)
        await trio.sleep(30)
        assert not any(server.held.values()), "nothing is left at the server"
    rows = Rows(report)
    assert rows.found("keep-alive") == "none seen within 15 s"
    assert rows.mark("keep-alive") == rows.mark("WebSocket, only pongs") == "undecided"
    assert rows.mark("head, slowly") == "good"
    assert report.verdict.outcome == "held"
    assert any(note.startswith("good practice goes further than we looked") for note in report.tables[0].notes)


@pytest.mark.usefixtures("few")
async def test_ctrl_c_ends_with_what_was_decided(autojump_clock: MockClock) -> None:
    async with planted(GOOD) as server, trio.open_nursery() as nursery:

        async def interrupt() -> None:
            await trio.sleep(15)
            signal.raise_signal(signal.SIGINT)

        nursery.start_soon(interrupt)
        report = await fingerprint(server)
    assert report.outcome is Outcome.INTERRUPTED
    assert report.verdict.reasons[0] == "stopped before the end; what was decided is in the table"
    assert_near(report, head_deadline_s=10)
    assert Rows(report).how("keep-alive") == "stopped before it was decided"


def test_every_limit_has_its_probe() -> None:
    others = {"connections_per_address", "others_beside_crowd", "answers_meanwhile_percent"}
    assert sorted(LIMITS) == sorted([*others, *(probe.figure for probe in ALONGSIDE)])
    assert len({probe.name for probe in ALONGSIDE}) == len(ALONGSIDE)


# Its parts


async def test_another_answer_than_before_the_probes_counts_as_none(autojump_clock: MockClock) -> None:
    async with planted() as server:
        where = Site(server.target, Options())
        where.plain_status, where.plain_path = 200, "/nothing"
        ordinary = play.OrdinaryClient(where)
        await ordinary.look()
    assert ordinary.finding() == Found(value=0, how="0 of 1")


async def test_bodies_go_where_the_server_waits_for_them(autojump_clock: MockClock) -> None:
    async with planted() as server:
        where = Site(server.target, Options(post_path="/post"))
        await survey(where)
    assert where.body_path == "/post"


async def test_the_worst_lateness_of_its_own_is_kept(autojump_clock: MockClock) -> None:
    where = Site(target.find("http://127.0.0.1:1"), Options())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.watch_lag, where)
        await trio.sleep(1.0)
        autojump_clock.jump(2.0)
        await trio.sleep(1.0)
        nursery.cancel_scope.cancel()
    assert 1.9 < where.worst_lag <= 2.0


@pytest.mark.parametrize(("absent", "kind"), [(Mark.MISSING, NoneSeen), (Mark.GOOD, Found)])
async def test_one_of_three_that_ended_counts_where_none_should(
    absent: Mark, kind: type[Finding], autojump_clock: MockClock
) -> None:
    findings = iter((NoneSeen(looked=100), Found(value=10), NoneSeen(looked=100)))

    async def found(_: Site) -> Finding:
        return next(findings)

    probe = Probe(name="a", figure="a_s", meaning="", why="", good=(5, 60), absent=absent, play=found)
    assert isinstance(await play.sampled(Site(target.find("http://127.0.0.1:1"), Options()), probe), kind)
