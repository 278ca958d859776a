"""The flags of `loadgen fingerprint`, and a run through them."""

import msgspec
import pytest

from loadgen.common import Common
from loadgen.fingerprint.play import fingerprint
from loadgen.fingerprint.site import Options
from loadgen.net.target import TargetDownError, TargetRefusedError, UsageError
from loadgen.report.schema import Outcome, Report
from loadgen.run.preflight import InvalidRunError
from tests.loadgen.commandline import exit_code
from tests.loadgen.planted_web import serving

URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("flag", "value", "error"),
    [
        ("--within", "1", "--within: 1 is below 10"),
        ("--within", "nan", "--within"),
        ("--within", "1e9", "--within"),
        ("--connections", "-1", "--connections"),
        ("--connections", "100_000", "--connections"),
        ("--path", "nowhere", "--path: 'nowhere' is no path"),
        ("--read-path", "a", "--read-path"),
        ("--post-path", "a b", "--post-path"),
        ("--ws-path", "", "--ws-path"),
        ("--poll-path", "/poll", "--poll-path: '/poll' must have {wait} in it once"),
        ("--poll-path", "poll{wait}", "--poll-path"),
        ("--header", "Host: a", "--header: Host is written by loadgen itself"),
    ],
)
def test_bad_flags_are_named(flag: str, value: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("fingerprint", URL, flag, value) == 2
    assert capsys.readouterr().err.startswith(f"loadgen: {error}")


@pytest.mark.parametrize(
    ("common", "error"),
    [
        (Common(fail_if=("head_s>1",)), "known are answers_meanwhile_percent"),
        (Common(fail_if=("head_deadline_s",)), "--fail-if"),
        (Common(report="/dev/null/no"), "--report"),  # not after two minutes
    ],
)
def test_bad_common_flags_are_named(common: Common, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        fingerprint(URL, common=common)


def test_targets_that_are_not_probed() -> None:
    with pytest.raises(TargetDownError, match=r"nothing answers at 127\.0\.0\.1 port 1"):
        fingerprint(URL)
    with pytest.raises(TargetRefusedError):
        fingerprint("http://192.0.2.1")


@pytest.mark.slow
def test_a_run_ends_with_a_report_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A web server without any deadline. All goes at three times the pace."""
    with serving("static") as (url, _):
        code = fingerprint(
            url,
            options=Options(within=4.0, pace=0.3, connections=20, read_rates=(0, 3072)),
            common=Common(json=True, no_bar=True, fail_if=("limits_good>0",)),  # a busy machine decides less
        )
    out, err = capsys.readouterr()
    report = msgspec.json.decode(out, type=Report)
    assert code == report.outcome.exit_code
    # invalid where this machine gave us no CPU for a second
    assert report.outcome in {Outcome.FELL_SHORT, Outcome.INVALID}, (report.verdict, report.tables)
    assert [each for each in report.verdict.reasons if "good" in each] == [
        f"limits_good is {report.figures['limits_good']:g} (limits_good>0)"
    ]
    assert report.command == "fingerprint"
    assert report.target == url
    found = {row[0]: row[1] for row in report.tables[0].rows}
    assert found["head, slowly"].startswith("none seen within")
    assert found.keys() >= {"head, typed in 8 s", "fields", "answers to plain requests"}
    assert "after the last word" in err, "each probe is told as it is decided"


def test_without_descriptors_no_flags_are_named_that_it_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """--clients and --processes were."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (200, 200))
    with serving("static") as (url, _), pytest.raises(InvalidRunError, match=r"; raise the limit \(ulimit -Hn 664\)$"):
        fingerprint(url)
