"""Moderators and those they moderate, as a server sees them: who somebody is, and what a moderator asks for.

Owns: the headers that say who asks, the requests of a moderator. May not: know how a sanction is kept.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from chatserver.api.identities import Identities
from chatserver.chat.principal import Action, Principal
from tests.support.peers import Address, Answer, ask, chatter

MODERATOR = {"Cookie": "chat_session=moderator-0123456789"}
SECOND_MODERATOR = {"Cookie": "chat_session=moderator-9876543210"}


class Moderator(Principal, gc=False, frozen=True, eq=False):
    """Somebody who may everything."""

    def may(self, action: Action, room: str) -> bool:
        return True


@contextmanager
def moderators() -> Iterator[None]:
    """In here a server takes some cookies for a moderator's."""
    make = Identities._make_guest

    def _make(self: Identities, token: str, network: str) -> Principal:
        made = make(self, token, network)
        return Moderator(made.number, network) if token.startswith("moderator-") else made

    with mock.patch.object(Identities, "_make_guest", _make):
        yield


def guest(name: str) -> dict[str, str]:
    """The headers by which a guest is the same one each time."""
    return {"Cookie": f"chat_session={name:-<20}"}


async def id_of(address: Address, who: dict[str, str]) -> str:
    """The public id of a guest."""
    async with chatter(address, headers=who) as it:
        user_id: str = it.hello["user"]["id"]
        return user_id


async def moderate(
    address: Address, method: str, path: str, *, who: dict[str, str] | None = None, source: str = "", **fields: Any
) -> Answer:
    """A moderator's request, with a JSON body if there are fields."""
    headers = {**(MODERATOR if who is None else who), **({"Content-Type": "application/json"} if fields else {})}
    body = json.dumps(fields).encode() if fields else b""
    if method == "POST" and not body:
        headers["Content-Length"] = "0"
    return await ask(address, method, path, body, headers=headers, source=source)


async def sanction(address: Address, room: str = "lobby", *, source: str = "", **fields: Any) -> Any:
    """Make one; the body of the 201."""
    answer = await moderate(address, "POST", f"/rooms/{room}/sanctions", source=source, **fields)
    assert answer.status == 201, answer
    return answer.json
