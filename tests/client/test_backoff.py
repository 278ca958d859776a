from chatserver.client.backoff import ASKED_SPREAD, FIRST_DELAY, LONGEST_DELAY, STEADY_AFTER, Backoff


def test_doubles_up_to_the_longest() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    delays = [backoff.delay(asked=None) for _ in range(12)]
    assert delays[:3] == [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]
    assert delays[-1] == LONGEST_DELAY


def test_is_spread_over_the_whole_span() -> None:
    assert Backoff(jitter=lambda: 0.0).delay(asked=None) == 0.0


def test_what_the_server_asked_is_never_cut_short() -> None:
    assert Backoff(jitter=lambda: 0.0).delay(asked=3.0) == 3.0
    assert Backoff(jitter=lambda: 1.0).delay(asked=3.0) == 3.0 * (1 + ASKED_SPREAD)


def test_only_a_connection_that_lasted_resets_it() -> None:
    backoff = Backoff(jitter=lambda: 1.0)
    backoff.delay(asked=None)
    backoff.lived(STEADY_AFTER / 2)
    assert backoff.delay(asked=None) == 2 * FIRST_DELAY
    backoff.lived(STEADY_AFTER)
    assert backoff.delay(asked=None) == FIRST_DELAY
