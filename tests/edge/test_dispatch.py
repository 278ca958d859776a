"""The columns that the table cannot name: after a real server was built, every row has its handler and contexts."""

from types import NoneType

import pytest

from chatserver.net.connections import Connections
from chatserver.net.handler import Handler
from chatserver.net.states import (
    READS,
    TABLE,
    State,
)
from tests.support.certificates import certificate
from tests.support.serving import serving

ENDS = {State.CLOSING, State.LINGERING}


def check_bindings(connections: Connections, states: set[State]) -> None:
    """Each has a handler that says what the end of its time means, and takes bytes where it is read."""
    for state in states:
        handler = connections._handlers[state]
        assert type(handler) is not Handler, f"nobody attends to {state.name}"
        assert type(handler).expired is not Handler.expired, f"nobody attends to the end of {state.name}"
        assert connections.context_types[state] != (object,), f"{state.name} may carry anything"
        if READS[state]:
            assert type(handler).received is not Handler.received, f"{state.name} is read by nobody"
        if TABLE[state].announces:
            assert type(handler).lacking is not Handler.lacking, f"{state.name} announces, and is not asked"
        carries = set(connections.context_types[state]) - {NoneType}
        if carries and state not in ENDS:
            assert type(handler).released is not Handler.released or state in KEEPS_NOTHING, state.name


#: What they carry holds nothing that would have to be given back.
KEEPS_NOTHING = {State.SERVING}


async def test_a_real_server_binds_every_row_of_plain_http() -> None:
    async with serving() as server:
        check_bindings(server.server.parts.connections, set(State) - {State.TLS_HELLO, State.TLS_HANDSHAKE})


async def test_a_real_server_binds_every_row_with_tls(tmp_path_factory: pytest.TempPathFactory) -> None:
    cert, key = certificate(tmp_path_factory.mktemp("tls"))
    async with serving(tls_cert=cert, tls_key=key, proxy_protocol=True, trusted_proxy=("192.0.2.1",)) as server:
        connections = server.server.parts.connections
        check_bindings(connections, set(State))
        assert connections.first("192.0.2.1") is State.PROXY
        assert connections.first("127.0.0.1") is State.TLS_HELLO
