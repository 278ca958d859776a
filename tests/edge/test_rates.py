"""What the edge does with a connection's bucket: who is never hurt by it, and who is."""

from chatserver.edge.http import REQUEST_BURST
from chatserver.edge.websocket import CONTROL, MESSAGE_BURST, REFUSAL, REFUSALS
from chatserver.meters import TokenBucket
from chatserver.settings.fields import Settings
from tests.support.peers import ClosedError, chatter, connect, frame, request
from tests.support.serving import serving

SECOND = 1_000_000  # microseconds
NOW = 12_345 * SECOND


def message_bucket(rate: float, rooms: int) -> TokenBucket:
    """As edge/websocket.py makes it."""
    return TokenBucket(rate, burst=rate * MESSAGE_BURST + rooms)


def test_a_bot_that_is_a_little_too_fast_is_never_closed_for_it() -> None:
    """A quarter above its user's rate, and it heeds no refusal."""
    bucket, state = message_bucket(20.0, rooms=100), 0
    for second in range(1000):
        for _ in range(5):
            state = bucket.spend(state, NOW + second * SECOND, REFUSAL)
    assert not bucket.over(state, NOW + 1000 * SECOND)


def test_a_client_that_comes_back_may_join_all_its_rooms() -> None:
    settings = Settings()
    bucket = message_bucket(settings.message_rate, settings.max_rooms_per_connection)
    state = 0
    for _ in range(settings.max_rooms_per_connection):
        state = bucket.spend(state, NOW)
    assert not bucket.over(state, NOW)


async def test_requests_beyond_the_burst_wait_and_are_answered() -> None:
    rate = 20.0
    count = round(rate * REQUEST_BURST) + 10
    async with serving(request_rate=rate) as server, connect(server.address) as peer:
        await peer.send(request("GET", "/healthz") * count)
        assert [(await peer.response()).status for _ in range(count)] == [200] * count


async def test_messages_beyond_the_burst_are_refused_with_the_time_to_wait() -> None:
    async with serving(message_rate=1.0, max_rooms_per_connection=1) as server, chatter(server.address) as friend:
        for _ in range(round(MESSAGE_BURST) + 4):
            answer = await friend.ask("ping")
        assert answer["code"] == "rate_limited"
        assert answer["retry_after"] > 0


async def test_a_flood_of_control_frames_ends() -> None:
    flood = frame(b"", opcode=10) * (100 + (REFUSALS * REFUSAL) // CONTROL)
    async with serving(message_rate=1.0, max_rooms_per_connection=1) as server, chatter(server.address) as friend:
        await friend.peer.send(flood)
        closed = await friend.closed()
        assert isinstance(closed, ClosedError)
        await server.counted("flood")
