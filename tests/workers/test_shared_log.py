"""The folder of a supervisor's workers: it stays while any of them runs; the next supervisor removes it."""

import os
from pathlib import Path

import pytest

from chatserver.log.interface import LogOpenError
from chatserver.workers.shared_log import IN_USE, shared_log
from tests.log.support import listing

URL = "postgresql://chat@db.example/chat"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def abandoned(temporary: Path) -> Path:
    """The folder left by a server whose processes were all killed."""
    folder = temporary / "chatserver-abandoned"
    folder.mkdir(mode=0o700)
    for name in (IN_USE, "0", "said-0"):
        (folder / name).touch()
    return folder


def test_the_folder_of_killed_processes_is_removed_by_the_next_supervisor(abandoned: Path, temporary: Path) -> None:
    """Otherwise such folders accumulate in /tmp."""
    with shared_log(URL) as following:
        assert listing(temporary) == [following.folder.name]
        assert listing(following.folder) == [IN_USE]
    assert listing(temporary) == []


def test_a_folder_in_use_stays(temporary: Path) -> None:
    with shared_log(URL) as first, shared_log(URL) as second:
        assert listing(temporary) == sorted((first.folder.name, second.folder.name))


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
    (shown / IN_USE).touch()
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
