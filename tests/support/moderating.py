"""Moderators and the people whom they moderate, as a server sees them.

Owns: a server with moderators, the headers that identify a person, the requests of a moderator. May not: know how a
sanction is stored.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.peers import Address, Answer, ask, chatter
from tests.support.serving import Serving, serving
from tests.support.tokens import bearer, secret_file, token

#: A network that is not the moderator's.
ELSEWHERE = "127.0.0.2"


@asynccontextmanager
async def moderated(folder: Path, **settings: Any) -> AsyncIterator[Serving]:
    """A server with token sign-in."""
    async with serving(token_key=(secret_file(folder),), **settings) as server:
        yield server


def signed_in(sub: str, **chat: Any) -> dict[str, str]:
    """The headers of a user with a token; `chat` is its claim of that name."""
    return bearer(token(sub=sub, name=sub.title(), chat=chat or None))


def guest(name: str) -> dict[str, str]:
    """The headers of a guest with a fixed session."""
    return {"Cookie": f"chat_session={name:-<20}"}


MODERATOR = signed_in("u_mod", role="moderator")


async def id_of(address: Address, who: dict[str, str]) -> str:
    """The public id of a user."""
    async with chatter(address, headers=who) as it:
        user_id: str = it.hello["user"]["id"]
        return user_id


async def moderate(
    address: Address, method: str, path: str, *, who: dict[str, str] | None = None, source: str = "", **fields: Any
) -> Answer:
    """A moderator's request, with a JSON body if there are fields."""
    headers = MODERATOR if who is None else who
    if method == "POST" and not fields:
        headers = {**headers, "Content-Length": "0"}
    return await ask(address, method, path, fields or b"", headers=headers, source=source)


async def sanction(address: Address, room: str = "lobby", *, source: str = "", **fields: Any) -> Any:
    """Mute or ban; the body of the 201."""
    answer = await moderate(address, "POST", f"/rooms/{room}/sanctions", source=source, **fields)
    assert answer.status == 201, answer
    return answer.json


async def say(address: Address, who: dict[str, str], room: str = "lobby", source: str = "") -> Answer:
    """Publish something over HTTP."""
    return await ask(address, "POST", f"/rooms/{room}/messages", b"hi", headers=who, source=source)


async def read(address: Address, who: dict[str, str], room: str = "lobby", source: str = "") -> int:
    """The status of a request for a room's messages."""
    return (await ask(address, "GET", f"/rooms/{room}/messages", headers=who, source=source)).status


async def audit(address: Address, query: str = "") -> Any:
    """Entries of the audit trail."""
    answer = await moderate(address, "GET", f"/audit{query}")
    assert answer.status == 200, answer
    return answer.json["entries"]


async def is_listed(address: Address, user: object, room: str) -> bool:
    """Whether a user is in the list of members."""
    answer = await moderate(address, "GET", f"/rooms/{room}/members")
    return user in answer.json["members"]


async def poll_once(address: Address, who: dict[str, str], *rooms: str) -> None:
    """Make a user present in rooms without a connection, by a poll from ELSEWHERE."""
    query = "&".join(f"room={room}" for room in rooms)
    assert (await ask(address, "GET", f"/poll?{query}", headers=who, source=ELSEWHERE)).status == 200
