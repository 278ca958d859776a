"""The share of each limit that one of several workers has, and how `chatserver limits` shows it."""

import io

from chatserver.settings.describe import print_limits
from chatserver.settings.fields import SPECS, Settings, share, share_of
from chatserver.settings.spec import Section, Sharing

DIVIDED = {name for name, spec in SPECS.items() if spec.sharing in (Sharing.DIVIDED, Sharing.SPREAD)}


def of(workers: int, **options: object) -> Settings:
    return Settings(workers=workers, log="sqlite:chat.db", **options)  # type: ignore[arg-type]


def shown(settings: Settings) -> dict[str, str]:
    """The lines of `chatserver limits`, by flag."""
    file = io.StringIO()
    print_limits(settings, file)
    return {line.split()[0]: line for line in file.getvalue().splitlines()}


def test_divided_limits_add_up_and_the_others_are_the_same() -> None:
    for workers in (1, 2, 3, 16, 256):
        settings = of(workers, max_connections=100_000, all_unfinished_bytes=1 << 30, all_rings_bytes=1 << 40)
        one = share_of(settings)
        assert {"max_connections", "per_ip", "all_rings_bytes", "all_unfinished_bytes", "max_rooms"} == DIVIDED
        for name in SPECS:
            total, mine = getattr(settings, name), getattr(one, name)
            if name not in DIVIDED:
                assert mine == total, name
            elif name != "per_ip":
                assert total <= mine * workers < total + workers, name


def test_the_connections_of_one_network_have_room_for_an_uneven_spread() -> None:
    """The kernel hardly ever spreads 512 connections over two workers as 256 and 256."""
    assert [share("per_ip", of(workers)) for workers in (1, 2, 16)] == [512, 304, 49]
    assert share("per_ip", of(2, per_ip=2)) == 2
    assert share("per_ip", of(2, per_ip=0)) == 0
    assert share("max_connections", of(2)) == 0, "derived from RLIMIT_NOFILE, which each process has"


def test_a_share_is_never_below_what_one_peer_may_need() -> None:
    one = share_of(of(256, max_message_bytes=1 << 20, all_unfinished_bytes=4 << 20))
    assert one.all_unfinished_bytes == 1 << 20
    assert one.max_rooms >= SPECS["max_rooms"].minimum


def test_limits_show_how_they_apply_to_several_workers() -> None:
    """With one worker nothing of it is shown."""
    lines = shown(of(2, max_connections=1001))
    assert "With 2 workers: divided among the workers, 501 connections each." in lines["--max-connections"]
    assert "uneven spread, 304 connections each." in lines["--per-ip"]
    assert "With 2 workers: in each worker by itself." in lines["--publish-rate"]
    assert "worker" not in lines["--head-deadline"]
    line = shown(of(2))["--max-connections"]
    assert "With 2 workers: in each worker by itself." in line, "each worker has its own descriptors"
    assert "worker" not in str(shown(of(1)))
    assert len(shown(of(1))) == sum(spec.section is not Section.SERVICE for spec in SPECS.values())


def test_limits_show_the_effect_of_shards_on_rates() -> None:
    """With --shared, rates apply to all workers together, not to each by itself."""
    for workers in (1, 2):
        lines = shown(of(workers, shared="valkey://127.0.0.1:6379"))
        for flag in ("--publish-rate", "--search-rate"):
            assert "With --shared: one rate for all processes." in lines[flag]
            assert "by itself" not in lines[flag]
        assert "--shared" not in lines["--message-rate"]
