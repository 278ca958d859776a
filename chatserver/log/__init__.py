"""Where messages live, behind one small interface.

Owns: which engine a `--log` URL names. May not: import anything of ours outside this folder but `fair`. What a log
promises is in `interface`; `groups` shares the cost of a sync among publishers; `memory` and `sqlite` are the engines.
"""

from chatserver.log.interface import Log, LogOpenError
from chatserver.log.memory import MemoryLog
from chatserver.log.sqlite import SqliteLog


def open_log(url: str) -> Log:
    """The log that a URL names. `run` opens it.

    Raises LogOpenError for a URL that names no engine.
    """
    if url == "memory:":
        return MemoryLog()
    if url.startswith("sqlite:"):
        return SqliteLog(url.removeprefix("sqlite:"))
    raise LogOpenError(f"{url!r} names no log; use memory: or sqlite:PATH")
