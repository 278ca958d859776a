"""What a connection's bucket of messages allows an honest client. How a flood ends: tests/attacks/test_budgets.py."""

from chatserver.edge.websocket import MESSAGE_BURST, REFUSAL
from chatserver.meters import TokenBucket
from chatserver.settings.fields import Settings

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
