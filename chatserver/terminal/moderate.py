"""A moderator's requests from the command line, and their answers as lines.

Owns: the requests, and the form of an answer on a terminal and in a pipe. May not: know flags, except the name of the
one in an error.
"""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import IO, TypeVar

import msgspec
import trio
from rich.console import Console
from rich.table import Table
from rich.text import Text

from chatserver.client import wire
from chatserver.client.credentials import Credentials
from chatserver.client.http1 import HttpClient, Response, encoded_query
from chatserver.client.stream import EndedError, UnconnectedError
from chatserver.settings.spec import ConfigError
from chatserver.terminal.arguments import read_room, read_target, read_token
from chatserver.terminal.render import printable

#: The flag for each of the server's fields.
_FLAGS = {
    "room": "room", "user": "user", "network": "network", "network_of": "network-of", "seconds": "for",
    "reason": "reason", "limit": "limit", "after": "after", "offset": "offset",
}  # fmt: skip
#: Columns of times; "until" may say "no end".
_TIMES = frozenset(("time", "until"))
_LEAST_COLUMNS = 80  # of a terminal: in fewer a table cuts ids and times into pieces
_SIGN_IN = frozenset(("unauthenticated", "forbidden"))
#: Perhaps a name in place of an id: the server puts any id in force, since it knows no absent users.
_ABSENT = "nobody with this id is there now; a name is no id, `/who NAME` in `chatserver chat` shows it"


class AdminError(Exception):
    """The request failed; the message is safe to print."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class Entry(msgspec.Struct):
    """An entry of the audit trail."""

    id: int
    time: str
    by: wire.User
    network: str
    action: str
    room: str
    target: str
    detail: str
    target_name: str | None = None


class _Audit(msgspec.Struct):
    entries: tuple[Entry, ...]


_T = TypeVar("_T", bound=msgspec.Struct)


class Admin:
    """A moderator's requests to a server. All methods raise AdminError, or ConfigError for a value that is wrong."""

    def __init__(self, url: str, token: str) -> None:
        self._target, self._token = read_target(url), read_token(token)
        if not self._token:
            raise ConfigError("token", "this is no token")

    def sanction(
        self, kind: str, room: str, *, whom: Mapping[str, str], seconds: int | None, reason: str
    ) -> wire.Sanction:
        fields = {"kind": kind, **whom, "seconds": seconds, "reason": reason}
        given = {name: value for name, value in fields.items() if value is not None}
        return self._ask(wire.Sanction, "POST", room, "sanctions", given)

    def lift(self, kind: str, room: str, *, whom: Mapping[str, str]) -> wire.Sanction:
        for found in self.sanctions(room, whom=whom, limit=1000):
            if (found.kind, found.room) == (kind, room):
                return self._ask(wire.Sanction, "DELETE", room, f"sanctions/{found.id}")
        [(what, who)] = whom.items()
        raise AdminError(f"no {kind} of {what} {who} is in force in {room}; `admin sanctions` lists those that are")

    def sanctions(self, room: str, *, whom: Mapping[str, str], limit: int) -> Sequence[wire.Sanction]:
        """The sanctions in force in a room, or in all."""
        query = encoded_query(**whom, limit=limit)
        return self._ask(wire.Sanctions, "GET", room, f"sanctions?{query}").sanctions

    def kick(self, room: str, *, user: str, reason: str) -> int:
        """Returns the number of connections that were removed."""
        return self._ask(wire.Kicked, "POST", room, "kick", {"user": user, "reason": reason}).ended

    def delete(self, room: str, *, offset: int) -> wire.Ack:
        return self._ask(wire.Ack, "DELETE", room, f"messages/{offset}")

    def audit(self, *, after: int | None, limit: int) -> Sequence[Entry]:
        return self._request(_Audit, "GET", f"/audit?{encoded_query(after=after, limit=limit)}").entries

    def _ask(
        self, kind: type[_T], method: str, room: str, rest: str, fields: Mapping[str, object] | None = None
    ) -> _T:  # fmt: skip
        place = room if room == "*" else read_room(room)
        return self._request(kind, method, f"/rooms/{place}/{rest}", fields)

    def _request(self, kind: type[_T], method: str, path: str, fields: Mapping[str, object] | None = None) -> _T:
        try:
            return _decoded(trio.run(self._fetch, method, path, fields), kind)
        except EndedError as ended:
            is_sure = method == "GET" or isinstance(ended, UnconnectedError)
            doubt = "" if is_sure else "; the change may have been made"
            raise AdminError(f"URL: {self._target.authority}: {ended.why}{doubt}") from ended

    async def _fetch(self, method: str, path: str, fields: Mapping[str, object] | None) -> Response:
        async with aclosing(HttpClient(self._target, Credentials(token=self._token))) as http:
            return await http.request(method, path, fields)


def _decoded(response: Response, kind: type[_T]) -> _T:
    """The answer. Raises EndedError for one that is not a chat server's, AdminError and ConfigError."""
    try:
        if not response.failed:
            return response.decode(kind)
        error = response.decode(wire.Refused).error
    except wire.ProtocolError as foreign:
        raise response.ending from foreign
    if error.code in _SIGN_IN:
        raise AdminError(f"--token: {error.message}")
    name = error.message.partition(":")[0]
    if flag := _FLAGS.get(name):
        raise ConfigError(flag, printable(error.message.removeprefix(f"{name}: ")))
    raise AdminError(error.message)


def done(what: str, sanction: wire.Sanction) -> str:
    """The line that reports a made or lifted sanction."""
    is_made = not what.startswith("un")
    until = f" until {sanction.until}" if sanction.until and is_made else ""
    place = "all rooms" if sanction.room == "*" else sanction.room
    is_there = not sanction.user or sanction.user_name
    absence = f"; {_ABSENT}" if is_made and not is_there else ""
    return printable(f"{what} {_whom(sanction)} in {place}{until} (sanction {sanction.id}){absence}")


def print_sanctions(sanctions: Sequence[wire.Sanction], file: IO[str]) -> None:
    """Print a table; in a pipe or a narrow terminal lines with tabs between the columns."""
    rows = [
        (str(each.id), each.kind, _whom(each), each.room, each.until or "no end", each.by.name, each.reason)
        for each in sanctions
    ]
    _print(("id", "kind", "whom", "room", "until", "by", "reason"), rows, file, none="no sanction is in force there")


def print_audit(entries: Sequence[Entry], file: IO[str]) -> None:
    """Print a table; in a pipe or a narrow terminal lines with tabs between the columns."""
    rows = [
        (str(each.id), each.time, _named(each.by.id, each.by.name), each.network, each.action, each.room,
         _named(each.target, each.target_name), each.detail)
        for each in entries
    ]  # fmt: skip
    columns = ("id", "time", "by", "from", "action", "room", "target", "detail")
    _print(columns, rows, file, none="nothing is in the audit trail there")


def _print(columns: Sequence[str], rows: Sequence[Sequence[str]], file: IO[str], *, none: str) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]  # with escapes, a cell could control the terminal
    width = shutil.get_terminal_size().columns
    if not file.isatty() or (rows and width < _LEAST_COLUMNS):
        for row in rows:
            print("\t".join(row), file=file)
        return
    console = Console(file=file, width=width)
    if not rows:
        console.print(none, style="dim")
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(f"{column} (UTC)" if column in _TIMES else column, overflow="fold")
    for row in rows:
        cells = [_short(cell) if column in _TIMES else cell for column, cell in zip(columns, row, strict=True)]
        table.add_row(*map(Text, cells))  # as `Text`, so that brackets in a reason are not markup
    console.print(table)


def _short(time: str) -> str:
    """A time to the second, which a narrow column folds between day and hour."""
    return time[:19].replace("T", " ")


def _whom(sanction: wire.Sanction) -> str:
    return _named(sanction.user or sanction.network or "", sanction.user_name)


def _named(id_: str, name: str | None) -> str:
    return f"{name} ({id_})" if name else id_
