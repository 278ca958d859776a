"""Connecting to an unknown host."""

import socket
from typing import NoReturn

import pytest
import trio

from chatserver.client.stream import EndedError, dial, parse_target


class EmptyResolver(trio.abc.HostnameResolver):
    """A resolver without any host."""

    async def getaddrinfo(self, *_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError


@pytest.mark.parametrize("url", ["http://chat.exmaple:8000", "https://chat.exmaple"])
async def test_the_error_names_the_unknown_host(url: str) -> None:
    trio.socket.set_custom_hostname_resolver(EmptyResolver())
    with pytest.raises(EndedError, match=r"cannot find chat\.exmaple: Name or service not known"):
        await dial(parse_target(url), timeout=10)
