"""The protocols that targets speak, one file each: victims, newcomers, and speakers on a schedule.

A file says all that there is to one protocol and ends with its `PROTOCOL`; that, and a place in `ADAPTERS`, is what a
new protocol takes.
"""

from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Final

from loadgen.client import Needs
from loadgen.messages import Reread
from loadgen.protocols import chat_v1, http, ws_echo
from loadgen.protocols.protocol import Protocol
from loadgen.victims.context import Context
from loadgen.victims.victim import Newcomer, Victim

#: In the order of reports.
ADAPTERS: Final = (chat_v1.PROTOCOL, http.PROTOCOL, ws_echo.PROTOCOL)

VICTIMS: Final = MappingProxyType({victim.name: victim for each in ADAPTERS for victim in each.victims})

#: What reports call those that stay connected, and those that connect, do one operation and leave.
ESTABLISHED: Final = MappingProxyType({kind: victim.words for kind, victim in VICTIMS.items()})
NEWCOMERS: Final = MappingProxyType({each.newcomer.kind: each.newcomer.words for each in ADAPTERS})
WHAT: Final = MappingProxyType({**ESTABLISHED, **NEWCOMERS})

#: Shares of victims, by the name of a protocol.
MIXES: Final = MappingProxyType({each.name: each.mix for each in ADAPTERS if each.mix})

#: Those whose message the server acknowledges, so that it can be asked for again.
KEEPS_MESSAGES: Final = frozenset(kind for kind, victim in VICTIMS.items() if victim.keeps_messages)


def _of(kind: str) -> Protocol:
    return next(each for each in ADAPTERS if VICTIMS[kind] in each.victims)


def newcomers_of(kinds: Iterable[str]) -> list[Newcomer]:
    """The newcomers that come beside such victims; beside polls and streams as most users of a chat do."""
    return sorted({_of(kind).newcomer for kind in kinds})


def served(victims: Iterable[str]) -> frozenset[Needs]:
    """What a server speaks that such victims can use."""
    return frozenset(need for kind in victims for need in _of(kind).proves)


async def reread(context: Context, victims: Sequence[Victim]) -> Reread:
    [ask] = [each.reread for each in ADAPTERS if each.reread is not None]
    return await ask(context, victims)
