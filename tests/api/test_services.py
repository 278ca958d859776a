"""The rates of what users and networks may store. The buckets: tests/test_meters.py."""

import trio
import trio.testing

from chatserver.api.services import BURST_SECONDS, NETWORK_SHARE, SIGN_OUT_BURST, WriteLimits
from chatserver.chat.principal import Principal
from chatserver.protocol.errors import too_often
from chatserver.settings.fields import Settings

Clock = trio.testing.MockClock


class Limited:
    """A limit, on a clock that stands still."""

    def __init__(self, rate: float) -> None:
        self.limit = WriteLimits(Settings(publish_rate=rate))

    def take(self, number: int, network: str = "here") -> float:
        return self.limit.take(Principal(number, network))


async def test_a_burst_is_some_seconds_of_the_rate_and_at_least_one_message(autojump_clock: Clock) -> None:
    for rate, burst in ((5.0, 5 * BURST_SECONDS), (0.1, 1)):
        it = Limited(rate)
        assert [it.take(1) for _ in range(20)].count(0.0) == burst


async def test_all_users_of_a_network_share_its_rate(autojump_clock: Clock) -> None:
    """A new user for each message: a new cookie, User-Agent and connection."""
    it = Limited(1.0)
    burst = round(NETWORK_SHARE * BURST_SECONDS)
    assert [it.take(number) for number in range(burst)] == [0.0] * burst
    wait = it.take(-1)
    assert 0.0 < wait <= 1.0 / NETWORK_SHARE + 1e-6
    assert it.take(-2, "elsewhere") == 0.0
    await trio.sleep(wait + 1e-6)
    assert it.take(-3) == 0.0


async def test_a_refusal_by_the_users_rate_does_not_count_for_the_network(autojump_clock: Clock) -> None:
    it = Limited(1.0)
    for _ in range(1000):
        it.take(1)
    assert it.take(2) == 0.0
    assert (len(it.limit.users), len(it.limit.networks)) == (2, 1)
    await trio.sleep(3600.0)
    it.limit.sweep()
    assert (len(it.limit.users), len(it.limit.networks)) == (0, 0)


async def test_a_refusal_by_the_networks_rate_does_not_count_for_the_user(autojump_clock: Clock) -> None:
    """It spent what the user could have sent from elsewhere, or a moment later."""
    it = Limited(1.0)
    for number in range(round(NETWORK_SHARE * BURST_SECONDS)):
        it.take(number)
    assert all(it.take(-1) for _ in range(10))
    assert [it.take(-1, "elsewhere") for _ in range(round(BURST_SECONDS))] == [0.0] * round(BURST_SECONDS)


async def test_without_a_limit_for_users_networks_have_none_but_for_sign_outs(autojump_clock: Clock) -> None:
    """Any text is a guest's token, so without it one client could push out the sign-outs of all others."""
    it = Limited(0.0)
    assert {it.take(number) for number in range(1000)} == {0.0}
    assert len(it.limit.users) == 0, "nothing is counted"
    assert {it.limit.markers.take("here", 0.0) for _ in range(10_000)} == {0.0}
    assert [it.limit.sign_outs.take("here", 0.0) for _ in range(1000)].count(0.0) == SIGN_OUT_BURST


def test_a_rate_limit_never_says_to_wait_for_nothing() -> None:
    """It said `try again in 0.0 s`."""
    for wait, told in ((0.04, "0.1"), (0.3, "0.3"), (12.0, "12.0")):
        assert too_often(wait) == f"too many messages; try again in {told} s"
