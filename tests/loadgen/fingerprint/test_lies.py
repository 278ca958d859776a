"""Servers for which a fingerprint once gave a wrong result: each as a planted server.

In virtual time, one probe each. The wrong result is in the comment beside the row.
"""

import re
from dataclasses import replace

import pytest
from trio.testing import MockClock

from loadgen.fingerprint.found import Failed, Found, NoneSeen, NotApplicable, remark
from loadgen.fingerprint.practice import Mark, Result
from loadgen.report.schema import Outcome
from tests.loadgen.fingerprint.plant import NEVER, Plant
from tests.loadgen.fingerprint.planted import planted
from tests.loadgen.fingerprint.plays import GOOD, SLACK, Rows, find, fingerprint

#: From the first sample to the last.
SAMPLES_APART = 20 / 3

HEAD, BODY, CHUNKED = "head_deadline_s", "body_deadline_s", "chunked_body_deadline_s"

#: Each line that is complete starts the timer anew, which a byte a second never does: "10.0 s, a total deadline, good".
BY_LINE = replace(GOOD, head_total=NEVER, head_line=10)
BY_BYTE = replace(GOOD, head_total=NEVER, head_idle=9, body_idle=7)
#: It ends a byte a second after 5 s and 400 never: that was "5.00 s, a total deadline, good".
HEAD_RATE = replace(GOOD, head_total=NEVER, head_rate=240)
BODY_RATE = replace(GOOD, body_total=NEVER, body_rate=240)
NO_PLACE = Plant(says=b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("figure", "plant", "kind", "mark", "text"),
    [
        (CHUNKED, GOOD, Found, Mark.GOOD, "a total deadline"),
        # a deadline that is answered 400 was "none seen, refused as too large"
        (HEAD, replace(GOOD, head_idle=5, timeout_status=400), Found, Mark.GOOD, "progress extends it"),
        (BODY, replace(GOOD, body_idle=7, timeout_status=400), Found, Mark.GOOD, "progress extends it"),
        (HEAD, BY_LINE, NoneSeen, Mark.MISSING, r"a byte a second 10.0 s ±\S+, a line a second none"),
        # the end of one that comes by lines, at the size that a head may have, is none of its deadline
        *[
            (
                HEAD,
                replace(BY_LINE, max_begun=650, begun_status=each),
                NoneSeen,
                Mark.UNDECIDED,
                f"as too large: {each}",
            )
            for each in (400, 431)
        ],
        (HEAD, replace(GOOD, head_total=25, max_begun=2500, begun_status=400), Found, Mark.GOOD, "a total deadline"),
        ("head_stall_deadline_s", replace(GOOD, reset_connection=7), Found, Mark.GOOD, "1 of 3 failed: turned away at"),
        (HEAD, BY_BYTE, NoneSeen, Mark.MISSING, r"stalled 9.0\d s ±\S+, a byte a second none seen"),
        ("head_stall_deadline_s", BY_BYTE, Found, Mark.GOOD, "408"),
        (BODY, BY_BYTE, Found, Mark.GOOD, "progress extends it"),
        ("head_stall_deadline_s", BY_LINE, Found, Mark.GOOD, "408"),
        (HEAD, HEAD_RATE, Found, Mark.LENIENT, "a least rate"),
        (BODY, BODY_RATE, Found, Mark.LENIENT, "a least rate"),
        (CHUNKED, BODY_RATE, Found, Mark.LENIENT, "a least rate"),
        # a 411 at once was a deadline of "0.00 s, harsh", and a 411 to every size "none seen up to 1 MiB, missing"
        (CHUNKED, replace(GOOD, chunked=411), NotApplicable, Mark.NONE, "411"),
        ("chunk_overhead_bytes", replace(GOOD, chunked=411), NotApplicable, Mark.NONE, "411"),
        # Python's http.server answers a body in chunks before it comes, and had no limit of what it does not read
        ("chunk_overhead_bytes", replace(GOOD, chunked=201), NotApplicable, Mark.NONE, "in chunks is answered 201"),
        # a slow application "held a long-poll for 2.00 s, harsh", and "ended a body in chunks after 2.00 s, harsh"
        ("poll_hold_s", replace(GOOD, takes=2.0, poll_max=0), NotApplicable, Mark.NONE, "is answered 200 at once"),
        (CHUNKED, replace(GOOD, takes=2.0, chunked=201), NotApplicable, Mark.NONE, "201 before the body"),
        (BODY, replace(GOOD, takes=2.0), Found, Mark.GOOD, "a total deadline"),
        # express takes an empty body and no blank one, which was a limit of the chunks: "0 B (to 128)"
        ("chunk_overhead_bytes", replace(GOOD, max_overhead=NEVER, blank=400), NoneSeen, Mark.MISSING, ""),
        # one that has no place for these only was said to lack them, and was held
        (BODY, replace(GOOD, turns_away="POST"), Failed, Mark.NONE, "POST /post is answered 503 before the body"),
        (
            "ws_message_bytes",
            replace(GOOD, turns_away="GET /ws"),
            Failed,
            Mark.NONE,
            "an upgrade at /ws is turned away",
        ),
        (
            "ws_ping_s",
            replace(GOOD, close_first=True),
            NotApplicable,
            Mark.NONE,
            "silent connection after 25.0 s: close 1001",
        ),
        ("ws_pong_deadline_s", replace(GOOD, close_first=True), NotApplicable, Mark.NONE, "after 25.0 s: close 1001"),
        ("ws_pong_deadline_s", replace(GOOD, ping_every=NEVER), NotApplicable, Mark.NONE, "no ping came within 105 s"),
        (
            "ws_close_deadline_s",
            replace(GOOD, reserved="reset"),
            NotApplicable,
            Mark.NONE,
            "without a close frame: RST",
        ),
        ("ws_close_deadline_s", replace(GOOD, reserved="nothing"), NotApplicable, Mark.NONE, "did not make it close"),
        # a server without a free place was given a limit
        (CHUNKED, replace(GOOD, chunked=503), Failed, Mark.NONE, "503"),
        ("chunk_overhead_bytes", replace(GOOD, chunked=503), Failed, Mark.NONE, "503"),
        ("first_byte_deadline_s", NO_PLACE, Failed, Mark.NONE, "503"),
        # a WebSocket that closes after what it does not understand was "0 B (to 256), harsh"
        ("ws_message_bytes", replace(GOOD, max_message=10), NotApplicable, Mark.NONE, ""),
        ("ws_fragments", replace(GOOD, max_message=10), NotApplicable, Mark.NONE, ""),
        # some servers answer pings as they read them, and handle the message before in another task
        ("ws_message_bytes", replace(GOOD, refuses_late=0.02), Found, Mark.GOOD, "close 1008"),
        ("ws_message_bytes", replace(GOOD, mute=True), Found, Mark.GOOD, "^(FIN|RST)$"),
        ("ws_ping_s", replace(GOOD, pings_at_once=True), Found, Mark.GOOD, "^ping$"),
        # a connection that is closed after an answer, without a word of it, was "0.00 s, harsh"
        ("keepalive_deadline_s", replace(GOOD, keepalive=0), NotApplicable, Mark.NONE, "closes after an answer"),
        ("keepalive_deadline_s", replace(GOOD, one_answer=True), NotApplicable, Mark.NONE, "is closed after GET /"),
        # any answer counted as service
        ("slow_typist_served", replace(GOOD, late_head=400), Found, Mark.HARSH, "400"),
        ("slow_typist_served", replace(GOOD, late_head=-1), Found, Mark.HARSH, "^FIN after .*, and 200 to the same"),
        ("slow_typist_served", replace(GOOD, late_head=503), Failed, Mark.NONE, "503"),
    ],
)
async def test_what_a_probe_finds(
    figure: str, plant: Plant, kind: type[object], mark: Mark, text: str, autojump_clock: MockClock
) -> None:
    result = await find(plant, figure)
    assert isinstance(result.finding, kind), result.finding
    assert result.mark is mark
    assert re.search(text, remark(result.finding))
    assert text != "a least rate" or result.words == "5.00 s or more"


async def test_a_server_that_reads_on_after_its_last_word(autojump_clock: MockClock) -> None:
    result = await find(replace(GOOD, linger=NEVER), "linger_deadline_s", within=10.0)
    assert isinstance(result.finding, NoneSeen)
    assert 8 < result.finding.looked < 11
    assert remark(result.finding).endswith(", and still reading")


async def test_where_a_get_is_an_error_the_upgrade_is_the_plain_request(autojump_clock: MockClock) -> None:
    """One error looks like another: to a server of WebSockets alone a head too large is as good as a small one."""
    result = await find(GOOD, "slow_typist_served", path="/nothing")
    assert remark(result.finding).startswith("101 after ")
    result = await find(GOOD, "keepalive_deadline_s", path="/nothing")
    assert result.finding == NotApplicable(why="GET /nothing is answered 404")


async def _ranged(plant: Plant, figure: str) -> tuple[Result, Found]:
    result = await find(plant, figure)
    assert isinstance(result.finding, Found)
    return result, result.finding


@pytest.mark.parametrize(
    ("figure", "plant", "least", "value", "most"),
    [
        (BODY, replace(GOOD, body_rate=240), 5, 5, 12),  # a least rate beside a total deadline
        (HEAD, replace(GOOD, head_total=25, max_begun=4000), 25, 25, 25),  # 400 B/s meets a size limit after 10 s
        ("first_byte_deadline_s", replace(GOOD, reset_connection=7), 0, 10, 10),  # one connection that ends early
    ],
)
async def test_the_range_of_a_deadline_that_is_good(
    figure: str, plant: Plant, least: float, value: float, most: float, autojump_clock: MockClock
) -> None:
    result, finding = await _ranged(plant, figure)
    assert (finding.least, finding.value, finding.most) == pytest.approx((least, value, most), abs=2 * SLACK)
    assert result.mark is Mark.GOOD


@pytest.mark.parametrize("any_activity", [False, True])
async def test_the_question_whether_a_silent_reader_lives_is_no_sign_of_life(
    any_activity: bool, autojump_clock: MockClock
) -> None:
    """A request a second kept the connection for ever: "none seen within 105 s, missing"."""
    result, finding = await _ranged(replace(GOOD, any_activity=any_activity), "never_read_deadline_s")
    assert 20 <= finding.least <= finding.most < 22
    assert result.mark is Mark.GOOD


async def test_the_deadline_of_a_head_that_is_half_read_is_none_of_a_reader(autojump_clock: MockClock) -> None:
    """Of node, which has none for a reader, it was "71.6 s to 77.2 s, RST, good"."""
    plant = replace(GOOD, send_stall=NEVER, half_heads=True, reads=1000)
    result = await find(plant, "never_read_deadline_s", read_path="/")
    assert isinstance(result.finding, NotApplicable)
    assert "perhaps because of so many requests; give --read-path" in result.finding.why


async def test_a_server_that_looks_at_its_deadlines_now_and_then_has_a_range(autojump_clock: MockClock) -> None:
    """60 s, looked at every 30: a single sample said any figure between 60 and 90, exactly."""
    result, finding = await _ranged(replace(GOOD, head_total=60, sweep=30), "head_stall_deadline_s")
    assert 60 <= finding.least <= finding.most <= 90 + SLACK
    assert finding.most - finding.least > SAMPLES_APART / 2
    assert " to " in result.words


@pytest.mark.parametrize(
    "plant",
    [
        replace(GOOD, reset_head_once=3000),  # one reset was an exact size
        replace(GOOD, max_joined=5000),  # Apache joins fields of one name: "8,242 B", though a field may have so many
        replace(GOOD, max_head=NEVER, max_begun=16_382),  # hypercorn reads 64 KiB at once: "65,536 B"
    ],
)
async def test_the_size_of_a_head(plant: Plant, autojump_clock: MockClock) -> None:
    result = await find(plant, "head_bytes")
    assert result.finding == Found(value=16_384, uncertainty=1, how="431, closing")


async def test_a_head_may_have_as_much_as_go_allows(autojump_clock: MockClock) -> None:
    """The search ended at 1 MiB, and Go's limit of 1 MiB and 4 KiB was "missing"."""
    limit = (1 << 20) + 4096
    result = await find(replace(GOOD, max_head=limit), "field_bytes")
    assert isinstance(result.finding, Found)
    assert result.mark is Mark.LENIENT
    assert result.finding.value <= limit < result.finding.value + result.finding.uncertainty


async def test_a_server_without_a_place_is_not_measured(autojump_clock: MockClock) -> None:
    """All it said was compared with its 503 to a plain request: limits were "missing", and the slow were "served"."""
    async with planted(replace(GOOD, busy=True)) as server:
        report = await fingerprint(server)
    rows = Rows(report)
    assert report.outcome is Outcome.INVALID
    assert not [name for name in rows.names() if rows.mark(name) in {"missing", "harsh"}]
    assert "turned away: 503" in rows.how("head size")
