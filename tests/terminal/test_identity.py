import os
from pathlib import Path

import pytest

from chatserver.client.stream import parse_target
from chatserver.terminal.identity import is_renamed, keep_cookie, kept_cookie

HERE, THERE = parse_target("http://127.0.0.1:8000"), parse_target("https://127.0.0.1:8000")


def test_a_cookie_is_kept_for_its_server_and_its_user_only(tmp_path: Path) -> None:
    assert kept_cookie(HERE, "") == ""
    for cookie in ("guest=g1", "guest=g2"):
        keep_cookie(HERE, "", cookie)
        assert kept_cookie(HERE, "") == cookie
        (kept,) = (tmp_path / "chatserver").iterdir()
        assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        kept.chmod(0o644)
        kept.with_suffix(f".{os.getpid()}").touch(0o644)  # as an attempt leaves it on a full disk
    assert kept_cookie(THERE, "") == ""


@pytest.mark.parametrize("invalid", ["", "state"])
def test_state_is_kept_in_the_home_directory_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invalid: str
) -> None:
    """With a relative path each working directory had a guest of its own, and a file that nobody wanted there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", invalid)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = os.umask(0)
    try:
        keep_cookie(HERE, "", "guest=g1")
    finally:
        os.umask(before)
    (kept,) = (tmp_path / ".local" / "state" / "chatserver").iterdir()
    assert {folder.stat().st_mode & 0o777 for folder in kept.parents[:3]} == {0o700}


def test_without_a_home_directory_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user without an entry in passwd."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert kept_cookie(HERE, "") == ""
    with pytest.raises(OSError, match="home directory"):
        keep_cookie(HERE, "", "guest=g1")


def test_each_name_has_a_cookie_of_its_own() -> None:
    names = ["", "Ann", "ann", "../../etc/passwd", "日" * 40]
    for name in names:
        keep_cookie(HERE, name, f"guest={name!a}")
    assert [kept_cookie(HERE, name) for name in names] == [f"guest={name!a}" for name in names]


@pytest.mark.parametrize(
    ("cookie", "renamed"), [("guest=g1", False), ("guest=g1~Zoe~seal", True), ("guest=g2", False), ("", False)]
)
def test_a_name_is_taken_over_from_the_same_guest_only(cookie: str, *, renamed: bool) -> None:
    """Two terminals that start at once, without a cookie, are two guests until they end."""
    assert is_renamed(cookie, "guest=g1") == renamed


def test_the_cookie_of_a_balancer_is_no_name() -> None:
    """Two terminals of one guest drove each other to reconnect every few seconds, where each answer had another one."""
    before = "place=1; guest=g1~Ann~seal; way=a"
    assert not is_renamed("place=2; guest=g1~Ann~seal; way=b", before)
    assert is_renamed("place=2; guest=g1~Zoe~seal; way=b", before)
