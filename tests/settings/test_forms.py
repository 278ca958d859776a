"""Texts of settings: which are refused, and that equivalent texts become equal."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.settings import forms
from tests.support.errors import error_of


def test_equivalent_texts_become_equal() -> None:
    """Origins are those that browsers send."""
    for form, text, means in (
        (forms.origin, "https://app.example", "https://app.example"),
        (forms.origin, "HTTPS://App.Example", "https://app.example"),
        (forms.origin, "https://app.example:443", "https://app.example"),
        (forms.origin, "http://app.example:080", "http://app.example"),
        (forms.origin, "http://app.example:443", "http://app.example:443"),
        (forms.origin, "http://localhost:3000", "http://localhost:3000"),
        (forms.origin, "http://[::1]:3000", "http://[::1]:3000"),
        (forms.origin, "capacitor://localhost", "capacitor://localhost"),
        (forms.origin, "chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        (forms.host, "chat.example", "chat.example"),
        (forms.host, "Chat.Example.", "chat.example"),
        (forms.host, "build_host-1", "build_host-1"),
        (forms.host, "192.0.2.1", "192.0.2.1"),
        (forms.host, "[::1]", "::1"),
        (forms.host, "0:0:0:0:0:0:0:1", "::1"),
        (forms.host, "FE80::1", "fe80::1"),
        (forms.network, "10.0.0.3", "10.0.0.3/32"),
        (forms.network, "10.1.2.3/8", "10.0.0.0/8"),
        (forms.network, "2001:DB8::1/48", "2001:db8::/48"),
        (forms.network, "::ffff:10.0.0.3", "10.0.0.3/32"),  # as its peers count; no peer matched it
        (forms.network, "::ffff:10.1.2.3/104", "10.0.0.0/8"),
        (forms.network, "::/0", "::/0"),
        (forms.listen, "127.0.0.1:9100", ("127.0.0.1", 9100)),
        (forms.listen, "[::1]:9100", ("::1", 9100)),
        (forms.listen, "metrics.internal:0", ("metrics.internal", 0)),
        (forms.listen, "0.0.0.0:65535", ("0.0.0.0", 65_535)),
    ):
        assert form(text) == means, text


def test_servers_of_shared_are_read_with_their_credentials() -> None:
    for text, addresses, user, password in (
        ("valkey://127.0.0.1:6379", [("127.0.0.1", 6379)], None, None),
        ("valkey://b:2,a:1", [("a", 1), ("b", 2)], None, None),
        ("valkey://[::1]:6379,a:1", [("::1", 6379), ("a", 1)], None, None),
        ("valkey://a:1, b:2", [("a", 1), ("b", 2)], None, None),
        ("valkey://:s%40cret@a:1", [("a", 1)], None, "s@cret"),
        ("valkey://:s@cret@a:1", [("a", 1)], None, "s@cret"),
        ("valkey://ann:s:cret@a:1,b:2", [("a", 1), ("b", 2)], "ann", "s:cret"),
    ):
        assert forms.shards(text) == (tuple(addresses), user, password)


def test_no_error_shows_a_password() -> None:
    for text, complaint in (
        ("redis://:s3cret@a:1", "is not"),
        ("valkey://:s3cret@", "is not"),
        ("valkey://:s3cret@a", "is not"),
        ("valkey://:s3cret@a:1,a:1", "names a server twice"),
        ("valkey://:s3cret@a:0", "has port 0"),
        # All but the last server were taken for the password.
        ("valkey://:s3cret@a:1,:s3cret@b:2", "several passwords"),
    ):
        said = str(error_of(ValueError, forms.shards, text))
        assert (complaint in said, "s3cret" in said) == (True, False), (text, said)


WRONG = [
    (
        forms.shards,
        "is not",
        ["", "valkey://", "valkey:a:1", "redis://a:1", "a:1", "valkey://a", "valkey://a:", "valkey://a:1,", "valkey://a:1/0",
         "valkey://:1", "valkey://a:1;b:2", "valkey://::1:6379"],
    ),
    (
        forms.origin,
        "is not an origin",
        ["null", "*", "https://", "app.example", "//app.example", "https://app.example/", "https://app.example/chat",
         "https://*.app.example", "https://me@app.example", "https://app.example:", "https://app.example:https",
         "https://a b", "https://-a", "https://app.example?", "https://a,https://b", "https://bücher.example", ""],
    ),
    (
        forms.host,
        "is not the name or address of a host",
        ["", "*", "*.example", "http://chat.example", "chat.example:80", "[::1]:80", "a b", "a/b", "-a", "a,b"],
    ),
    (
        forms.listen,
        "is not HOST:PORT",
        ["", "9100", ":9100", "[]:9100", "::1:9100", "[::1]", "127.0.0.1", "127.0.0.1:", "x:http", "x:-1", "[x]:1"],
    ),
    (forms.listen, "port 65536 is above the maximum, 65535", ["x:65536"]),
    (forms.origin, "port 65536 is above the maximum, 65535", ["https://x:65536"]),
    (
        forms.log_url,
        "is none of memory:, sqlite:PATH and postgresql://USER@HOST/DATABASE",
        ["", "memory", "mongo:x", "chat.db", "SQLITE:x", "memory:x", "sqlite:", "sqlite::memory:", "postgresql:x"],
    ),
    (
        forms.header_name,
        "is not a header that can name a user",
        ["", "a b", "X-User:", "x" * 65, "Authorization", "COOKIE", "host"],
    ),
]  # fmt: skip


def test_malformed_texts_are_refused() -> None:
    for form, words, texts in WRONG:
        for text in texts:
            assert words in str(error_of(ValueError, form, text)), text


@given(st.text(max_size=40) | st.from_regex(r"https?://[\w.:\[\]-]{0,20}", fullmatch=True))
def test_a_parsed_origin_is_parsed_to_itself(text: str) -> None:
    try:
        read = forms.origin(text)
    except ValueError:
        return
    assert forms.origin(read) == read
    assert re.fullmatch(r"[a-z0-9+.-]+://[^/?#@\s]+", read)


@given(st.ip_addresses())
def test_an_address_is_a_host_in_any_spelling(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert forms.host(address.exploded) == forms.host(str(address).upper()) == str(address)


# -- logs


def test_no_password_is_shown() -> None:
    for url, shown in (
        ("sqlite:a@b:c.db", "sqlite:a@b:c.db"),
        ("postgresql://ann@db/chat", "postgresql://ann@db/chat"),
        ("postgresql://ann:pw@db:5432/chat", "postgresql://ann:***@db:5432/chat"),
        ("postgresql://:pw@db/chat", "postgresql://:***@db/chat"),
        ("postgresql://ann:p@w:/x@db/chat", "postgresql://ann:***@db/chat"),
        ("postgresql://db/chat?user=ann&password=pw&sslmode=require", "postgresql://db/chat?user=ann&password=***&sslmode=require"),
        ("postgresql://ann:pw@db/chat?sslpassword=pw", "postgresql://ann:***@db/chat?sslpassword=***"),
        ("postgre://ann:pw@db1,db2/chat", "postgre://ann:***@db1,db2/chat"),
    ):  # fmt: skip
        assert forms.redacted(url) == shown


def test_an_error_about_a_log_shows_no_password() -> None:
    with pytest.raises(ValueError, match=r"^'mysql://ann:\*\*\*@db' is none of"):
        forms.log_url("mysql://ann:pw@db")
    for url in ("postgresql://ann:p@w@db/chat", "postgresql://ann:p/w@db/chat"):
        with pytest.raises(ValueError, match=r"^it has an @ or a / in its password; write %40 and %2F$"):
            forms.log_url(url)
    for url in ("postgresql://ann:p%40w@db/chat", "sqlite://data/a@b.db"):
        assert forms.log_url(url) == url
