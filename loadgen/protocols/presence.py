"""Who a chat says is in a room: a victim that is connected there, and no newcomer that left long ago.

Owns: what may be promised of a list of members on any server. A server may have none.
"""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import trio

from loadgen.clients.messages import Reread
from loadgen.net.timers import now
from loadgen.protocols.chat_v1 import WebSocketVictim
from loadgen.protocols.http import http_peer
from loadgen.victims.probe import Context
from loadgen.victims.victim import Victim, failure_in

#: Time in which a server may believe that one that left is about to come back; chatserver has 10 s.
GRACE_SECONDS: Final = 30.0

#: Time for an answer, and the pause before a list that was wrong is asked for again.
ANSWER_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5


class Expected(NamedTuple):
    least: int
    most: float


class _List(msgspec.Struct):
    members: tuple[msgspec.Raw, ...]


_lists: Final = msgspec.json.Decoder(_List)


def of_victim(victim: Victim) -> Expected:
    """Only a WebSocket makes a member on every server."""
    return Expected(int(isinstance(victim, WebSocketVictim) and victim.is_connected), math.inf)


def of_newcomers(context: Context, room: str) -> Expected:
    since = now() - GRACE_SECONDS
    return Expected(0, sum(left > since for left in context.newcomers_left[room].values()))


async def check(context: Context, room: str, reader: int, expected: Callable[[], Expected], patience: float) -> Reread:
    """Ask who is in a room, and again until `patience` if some are missing or should have gone."""
    try:
        with trio.move_on_after(max(patience - trio.current_time(), 0.0) + ANSWER_SECONDS):
            async with http_peer(context, reader) as peer:
                while (answer := await peer.request("GET", f"/rooms/{room}/members"))[0] == 200:
                    number, (least, most) = len(_lists.decode(answer[1]).members), expected()
                    wrong = int(max(least - number, number - most, 0))
                    if not wrong or trio.current_time() > patience:
                        return Reread(rooms=1, members_wrong=wrong)
                    await trio.sleep(RETRY_SECONDS)
    except BaseException as error:  # noqa: BLE001  `failure_in` raises everything but a failed connection
        failure_in(error)
    return Reread()
