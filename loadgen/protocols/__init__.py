"""The protocols that targets speak, one file each, which ends with its `PROTOCOL`; `ADAPTERS` has all of them."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from loadgen.clients.client import Needs
from loadgen.protocols import chat_v1, http, ws_echo

#: In the order of reports.
ADAPTERS: Final = (chat_v1.PROTOCOL, http.PROTOCOL, ws_echo.PROTOCOL)

VICTIMS: Final = MappingProxyType({victim.name: victim for each in ADAPTERS for victim in each.victims})

#: What reports call the victims that stay connected, and those that connect, do one operation and leave.
ESTABLISHED: Final = MappingProxyType({kind: victim.words for kind, victim in VICTIMS.items()})
NEWCOMERS: Final = MappingProxyType(
    {f"new-{kind}": f"newcomer, {words.removesuffix(' round trip')}" for kind, words in ESTABLISHED.items()}
)
WHAT: Final = MappingProxyType({**ESTABLISHED, **NEWCOMERS})

#: Shares of victims, by the name of a protocol.
MIXES: Final = MappingProxyType({each.name: each.mix for each in ADAPTERS if each.mix})

#: Victims whose messages the server acknowledges as stored, so that they can be read again.
KEEPS_MESSAGES: Final = frozenset(kind for kind, victim in VICTIMS.items() if victim.keeps_messages)


def served(victims: Iterable[str]) -> frozenset[Needs]:
    """What a server must speak if these victims can use it."""
    proves = {victim.name: each.proves for each in ADAPTERS for victim in each.victims}
    return frozenset(need for kind in victims for need in proves[kind])
