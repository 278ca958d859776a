"""The folder of a supervisor's workers: it stays while any of them runs; the next supervisor removes it."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatserver.log.interface import LogOpenError
from chatserver.workers.shared_log import MARK, shared_log
from tests.log.support import listing

URL = "postgresql://chat@db.example/chat"


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, with a short path."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@pytest.fixture
def abandoned(temporary: Path) -> Path:
    """The folder left by a server whose processes were all killed."""
    folder = temporary / "chatserver-abandoned"
    folder.mkdir(mode=0o700)
    for name in (MARK, "0", "said-0"):
        (folder / name).touch()
    return folder


def test_the_folder_of_killed_processes_is_removed_by_the_next_supervisor(abandoned: Path, temporary: Path) -> None:
    """Otherwise such folders accumulate in /tmp."""
    with shared_log(URL) as following:
        assert listing(temporary) == [following.folder.name]
        assert listing(following.folder) == [MARK]
    assert listing(temporary) == []


def test_a_folder_in_use_stays(temporary: Path) -> None:
    """It is locked as a whole: systemd-tmpfiles removed the workers' lock files from it after ten days."""
    with shared_log(URL) as first, shared_log(URL) as second:
        assert listing(temporary) == sorted((first.folder.name, second.folder.name))
        for each in (first, second):
            descriptor = os.open(each.folder, os.O_DIRECTORY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            os.close(descriptor)


def test_a_folder_whose_path_is_too_long_for_sockets_is_refused(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers reported a fault every few seconds, and knew only their own users."""
    long = temporary / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(LogOpenError, match="path too long; TMPDIR can name another place"), shared_log(URL):
        pass
    assert listing(long) == []


def test_a_server_that_cannot_have_the_log_leaves_nothing(temporary: Path) -> None:
    url = f"sqlite:{temporary / 'chat.db'}"
    with shared_log(url) as first:
        with pytest.raises(LogOpenError, match="in use by another server"), shared_log(url):
            pass
        assert listing(temporary) == ["chat.db-lock", first.folder.name]


def test_folders_of_others_stay(abandoned: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unmarked, shown, link, file = (temporary / f"chatserver-{name}" for name in ("bench", "shown", "link", "file"))
    unmarked.mkdir(mode=0o700)
    shown.mkdir()
    (shown / MARK).touch()
    shown.chmod(0o750)
    link.symlink_to(abandoned)
    file.touch(mode=0o700)
    before = listing(temporary)
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: abandoned.stat().st_uid + 1)
        with shared_log(URL):
            pass
    assert listing(temporary) == before
    with shared_log(URL):
        pass
    assert listing(temporary) == [name for name in before if name != abandoned.name]
