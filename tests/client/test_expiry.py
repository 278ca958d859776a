"""A client whose token ends, on each transport."""

import time
from pathlib import Path

import trio

from chatserver.client import Expiring, TransportName, connect
from tests.client.listener import SOON, each_transport, url
from tests.support.serving import serving
from tests.support.tokens import secret_file, token


@each_transport
async def test_the_end_of_a_token_is_told_and_a_new_token_goes_on(transport: TransportName, tmp_path: Path) -> None:
    """Over plain HTTP nothing told it: a bot that renews its token at `Expiring` was refused when the first ended."""
    now = int(time.time())
    async with (
        serving(token_key=(secret_file(tmp_path),)) as server,
        connect(url(server), token=token(exp=now + 25), transport=transport) as chat,
    ):
        seen = []
        with trio.fail_after(SOON):
            async for event in chat.events():
                if isinstance(event, Expiring):
                    seen.append(event.seconds)
                    if len(seen) == 2:
                        break
                    await chat.authenticate(token(exp=now + 25))
    assert all(0 < seconds <= 30 for seconds in seen)
