"""How often somebody may publish."""

from chatserver.api.services import BURST_SECONDS, NETWORK_SHARE, PublishLimit
from chatserver.chat.principal import Principal
from chatserver.settings.fields import Settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def limit(rate: float) -> tuple[PublishLimit, Clock]:
    clock = Clock()
    return PublishLimit(Settings(publish_rate=rate), clock), clock


def test_a_burst_and_then_the_rate() -> None:
    it, clock = limit(5.0)
    ann = Principal(1, "here")
    assert [it.take(ann) for _ in range(round(5 * BURST_SECONDS))] == [0.0] * round(5 * BURST_SECONDS)
    wait = it.take(ann)
    assert 0.0 < wait <= 1 / 5
    clock.now = wait * 0.9
    assert it.take(ann) > 0.0
    clock.now = wait + 1e-6
    assert it.take(ann) == 0.0


def test_a_rate_below_one_allows_one() -> None:
    it, _ = limit(0.1)
    assert it.take(Principal(1, "here")) == 0.0
    assert it.take(Principal(1, "here")) > 5.0


def test_users_do_not_share() -> None:
    it, _ = limit(1.0)
    ann, bob = Principal(1, "here"), Principal(2, "here")
    assert [it.take(ann) for _ in range(2)] == [0.0, 0.0]
    assert it.take(ann) > 0.0
    assert it.take(bob) == 0.0


def test_a_network_has_a_share_under_however_many_names() -> None:
    """A new name for each message: another cookie, another User-Agent, another connection."""
    it, clock = limit(1.0)
    burst = round(NETWORK_SHARE * BURST_SECONDS)
    assert [it.take(Principal(number, "here")) for number in range(burst)] == [0.0] * burst
    wait = it.take(Principal(-1, "here"))
    assert 0.0 < wait <= 1.0 / NETWORK_SHARE + 1e-6
    assert it.take(Principal(-2, "elsewhere")) == 0.0
    clock.now = wait + 1e-6
    assert it.take(Principal(-3, "here")) == 0.0


def test_who_is_refused_as_a_user_does_not_use_up_the_network() -> None:
    it, clock = limit(1.0)
    for _ in range(1000):
        it.take(Principal(1, "here"))
    assert it.take(Principal(2, "here")) == 0.0
    assert len(it) == 3
    clock.now = 1e6
    it.sweep()
    assert len(it) == 0


def test_no_limit_for_users_is_none_for_networks() -> None:
    it, _ = limit(0.0)
    assert {it.take(Principal(number, "here")) for number in range(1000)} == {0.0}
