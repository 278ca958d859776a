"""The columns that the table cannot name: after a real server was built, every row has its handler and contexts."""

from pathlib import Path
from types import NoneType

from chatserver.net.handler import Handler
from chatserver.net.states import READS, TABLE, State
from tests.support.certificates import certificate
from tests.support.serving import serving

#: What these carry holds nothing that would have to be given back, or is released by how they end.
KEEPS_NOTHING = {State.SERVING, State.CLOSING, State.LINGERING}


async def test_a_real_server_binds_every_row(tmp_path: Path) -> None:
    """Each has a handler that says what the end of its time means, and takes bytes where it is read."""
    cert, key = certificate(tmp_path)
    async with serving(tls_cert=cert, tls_key=key, proxy_protocol=True, trusted_proxy=("192.0.2.1",)) as server:
        connections = server.server.parts.connections
        for state, row in TABLE.items():
            handler, contexts = type(connections._handlers[state]), connections.context_types(state)
            assert handler.expired is not Handler.expired, f"nobody attends to the end of {state.name}"
            assert contexts != (object,), f"{state.name} may carry anything"
            if READS[state]:
                assert handler.received is not Handler.received, f"{state.name} is read by nobody"
            if row.announces:
                assert handler.lacking is not Handler.lacking, f"{state.name} announces, and is not asked"
            if contexts != (NoneType,) and state not in KEEPS_NOTHING:
                assert handler.released is not Handler.released, f"{state.name} keeps what it carries"
        assert connections.first("192.0.2.1") is State.PROXY
        assert connections.first("127.0.0.1") is State.TLS_HELLO
