"""The script in the docs that moves a chat from SQLite to PostgreSQL."""

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import trio

from tests.support.moderating import MODERATOR, guest, moderate, moderated
from tests.support.peers import ask
from tests.support.postgres import cleared_database, postgres_server, postgres_tables
from tests.support.serving import Serving, serving, until
from tests.test_docs import DOCS, fences

__all__ = ["cleared_database", "postgres_server", "postgres_tables"]

ANN, BOB, GONE = guest("ann"), guest("bob"), guest("gone")
[(_, SCRIPT)] = fences(DOCS / "nodes.md", "python move")


def _untimed(answer: Any) -> Any:
    """Without how long a search took."""
    return {name: value for name, value in answer.items() if name not in ("took_ms", "cached")}


async def _seen(server: Serving) -> list[Any]:
    """What users see of the chat."""
    paths = ("/rooms", "/rooms/lobby/messages", "/rooms/odd/messages", "/unread", "/session", "/search?q=edit")
    answers = [await ask(server.address, "GET", path, headers=ANN) for path in paths]
    listed = [await moderate(server.address, "GET", path) for path in ("/rooms/*/sanctions", "/audit?after=0")]
    return [_untimed(answer.json) for answer in answers + listed]


async def _who(server: Serving, headers: dict[str, str]) -> str:
    user_id: str = (await ask(server.address, "GET", "/session", headers=headers)).json["user"]["id"]
    return user_id


async def _speak(server: Serving) -> None:
    """Something of every kind that a log keeps."""
    address, lobby = server.address, "/rooms/lobby/messages"
    for text in ("first", "second", "a tab\t and\n\\.\n'\"", "deleted"):
        assert (await ask(address, "POST", lobby, {"text": text, "key": text[:5]}, headers=ANN)).status == 201
    assert (await ask(address, "POST", "/rooms/odd/messages", {"text": "\\N"}, headers=BOB)).status == 201
    assert (await ask(address, "PATCH", f"{lobby}/1", {"text": "edited"}, headers=ANN)).status == 200
    assert (await ask(address, "DELETE", f"{lobby}/4", headers=ANN)).status == 200
    assert (await ask(address, "PUT", f"{lobby}/2/reactions/%F0%9F%91%8D", headers=BOB)).status == 200
    assert (await ask(address, "PUT", "/rooms/lobby/read", {"offset": 2}, headers=ANN)).status == 204
    mute = {"kind": "mute", "user": await _who(server, BOB), "seconds": 600, "reason": "loud"}
    assert (await ask(address, "POST", "/rooms/lobby/sanctions", mute, headers=MODERATOR)).status == 201


async def test_a_chat_moves_from_sqlite_to_postgresql(tmp_path: Path, postgres_tables: str) -> None:
    """No page told how: an operator whose chat had grown began with an empty one."""
    database, script = tmp_path / "chat.db", tmp_path / "move.py"
    script.write_text(SCRIPT)
    async with moderated(tmp_path, log=f"sqlite:{database}") as server:
        await _speak(server)
        leaver = await _who(server, GONE)
        assert (await ask(server.address, "DELETE", "/session", headers=GONE)).status == 204
        before = await until(lambda: _seen(server), lambda seen: seen[5]["results"])
    async with serving(log=postgres_tables):
        pass  # makes the tables
    await trio.run_process([sys.executable, str(script), str(database), postgres_tables])
    async with moderated(tmp_path, log=postgres_tables) as server:
        assert await _seen(server) == before
        assert await _who(server, GONE) != leaver, "is signed out"
        assert (await ask(server.address, "POST", "/rooms/lobby/messages", {"text": "no"}, headers=BOB)).status == 403
        made = await ask(server.address, "POST", "/rooms/lobby/messages", {"text": "new"}, headers=ANN)
        assert made.json["offset"] == 8
        made = await ask(server.address, "POST", "/rooms/another/messages", {"text": "new"}, headers=ANN)
        assert made.json["offset"] == 1


async def test_the_script_copies_every_column(tmp_path: Path, postgres_tables: str) -> None:
    """A column that a migration adds to a table would be left behind silently."""
    found: dict[str, Any] = {}
    exec(SCRIPT.partition("\nold = ")[0], found)
    copied = {table.split()[0]: set(re.findall(r"\w+", table.partition(" ")[2])) for table in found["TABLES"]}
    async with serving(log=f"sqlite:{tmp_path / 'chat.db'}"), serving(log=postgres_tables):
        pass
    with psycopg.connect(postgres_tables) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'chatserver' "
            "AND is_generated = 'NEVER' AND NOT table_name = ANY(%s)",
            (["identity", "keys", "old_words", "version"],),
        ).fetchall()
    assert copied == {table: {name for of, name in columns if of == table} for table, _ in columns}
    with closing(sqlite3.connect(tmp_path / "chat.db")) as connection:
        for table, select in zip(copied, found["TABLES"].values(), strict=True):
            names = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}
            assert names - {"indexed"} <= set(re.findall(r"\w+", select))
