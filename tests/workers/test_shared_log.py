"""The folder of a supervisor's workers: it stays while any of them runs."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatserver.log.interface import LogOpenError
from chatserver.workers.shared_log import shared_log
from tests.log.support import listing

URL = "postgresql://chat@db.example/chat"


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files, with a short path."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


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
