"""Where messages live, behind one small interface.

Owns: which engine a `--log` URL names. May not: import modules of ours outside this folder, except `fair`.

`interface` holds the promises of a log, `groups` shares the cost of a sync among publishers, and `memory`, `sqlite` and
`postgres` are the engines. PostgreSQL's driver is an extra, imported only for a URL that needs it.
"""

from chatserver.log.interface import Log, LogOpenError
from chatserver.log.memory import MemoryLog
from chatserver.log.neighbours import Neighbours
from chatserver.log.sqlite import SqliteLog


def open_log(url: str, neighbours: Neighbours | None = None) -> Log:
    """Make the log that a URL names; `run` opens it. Several processes of one machine share a file as `neighbours`.

    Raises LogOpenError for an engine that cannot be shared, or whose driver is missing.
    """
    if url == "memory:":
        if neighbours is not None:
            raise LogOpenError("memory: serves one process only; several need a file, as in sqlite:chat.db")
        return MemoryLog()
    if url.startswith("sqlite:"):
        return SqliteLog(url.removeprefix("sqlite:"), neighbours=neighbours)
    try:
        from chatserver.log.postgres import PostgresLog  # noqa: PLC0415  (see above)
    except ImportError as error:
        raise LogOpenError(
            f"the driver is missing ({error}); install it: pip install '.[postgresql]' in the source tree"
        ) from error
    return PostgresLog(url)
