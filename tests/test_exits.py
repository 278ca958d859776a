import os

import pytest

from chatserver.exits import complain


def test_a_complaint_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """SQLite says in two lines which page is damaged."""
    complain("chat.db is damaged (*** in database main ***\nPage 2: btreeInitPage() returns error code 11)")
    assert capsys.readouterr().err == (
        "chatserver: chat.db is damaged (*** in database main *** Page 2: btreeInitPage() returns error code 11)\n"
    )


def test_a_complaint_is_an_error_in_the_journal_of_systemd(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
    complain("no")
    assert capsys.readouterr().err == "<3>chatserver: no\n"
