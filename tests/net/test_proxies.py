"""Who may speak for others."""

import pytest

from chatserver.net.proxies import TrustedProxies


@pytest.mark.parametrize(
    ("address", "covered"),
    [
        ("10.1.2.3", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:1::9", True),
        ("2001:db8:2::9", False),
        ("::ffff:10.1.2.3", True),
        ("fe80::1%eth0", True),
        ("127.0.0.1", False),
    ],
)
def test_addresses_and_networks(address: str, covered: bool) -> None:
    proxies = TrustedProxies(["10.0.0.1/8", "192.0.2.7", "2001:db8:1::/48", "fe80::/10"])
    assert proxies.covers(address) is covered
    assert proxies.covers(address) is covered, "remembered"


def test_an_empty_list_covers_nobody() -> None:
    assert not TrustedProxies([])
    assert not TrustedProxies([]).covers("127.0.0.1")
    assert TrustedProxies(["::1"])
