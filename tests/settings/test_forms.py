"""Texts that settings may be: which are refused, and that those which mean the same become the same."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.settings import forms
from chatserver.settings.sources import load_settings
from chatserver.settings.spec import ConfigError


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("https://app.example", "https://app.example"),
        ("HTTPS://App.Example", "https://app.example"),
        ("https://app.example:443", "https://app.example"),
        ("http://app.example:80", "http://app.example"),
        ("http://app.example:443", "http://app.example:443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
    ],
)
def test_origins_are_what_browsers_send(text: str, means: str) -> None:
    assert forms.origin(text) == means


@pytest.mark.parametrize(
    "text",
    ["null", "*", "https://", "app.example", "//app.example", "https://app.example/", "https://app.example/chat",
     "https://*.app.example", "https://me@app.example", "https://app.example:", "https://app.example:https",
     "https://a b", "https://-a", "https://app.example?", "https://a,https://b", "https://bücher.example", ""],
)  # fmt: skip
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        forms.origin(text)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("chat.example", "chat.example"),
        ("Chat.Example.", "chat.example"),
        ("build_host-1", "build_host-1"),
        ("192.0.2.1", "192.0.2.1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("FE80::1", "fe80::1"),
    ],
)
def test_names_of_hosts(text: str, means: str) -> None:
    assert forms.host(text) == means


@pytest.mark.parametrize(
    "text", ["", "*", "*.example", "http://chat.example", "chat.example:80", "[::1]:80", "a b", "a/b", "-a", "a,b"]
)
def test_what_is_no_name_of_a_host(text: str) -> None:
    with pytest.raises(ValueError, match="is not the name or address of a host"):
        forms.host(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9100", "127.0.0.1", 9100),
        ("[::1]:9100", "::1", 9100),
        ("metrics.internal:0", "metrics.internal", 0),
        ("0.0.0.0:65535", "0.0.0.0", 65_535),
    ],
)
def test_where_to_listen(text: str, host: str, port: int) -> None:
    assert forms.listen(text) == (host, port)


@pytest.mark.parametrize(
    "text", ["", "9100", ":9100", "[]:9100", "::1:9100", "[::1]", "127.0.0.1", "127.0.0.1:", "x:http", "x:-1", "[x]:1"]
)
def test_where_nobody_can_listen(text: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        forms.listen(text)


def test_a_port_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="port 65536 is above the maximum, 65535"):
        forms.listen("x:65536")


@given(st.text(max_size=40) | st.from_regex(r"https?://[\w.:\[\]-]{0,20}", fullmatch=True))
def test_an_origin_that_is_read_stays_as_it_is(text: str) -> None:
    try:
        read = forms.origin(text)
    except ValueError:
        return
    assert forms.origin(read) == read
    assert re.fullmatch(r"[a-z0-9+.-]+://[^/?#@\s]+", read)


@given(st.ip_addresses())
def test_an_address_is_a_host_however_it_is_written(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert forms.host(address.exploded) == forms.host(str(address).upper()) == str(address)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("allow_origin", "https://app.example/"),
        ("allow_origin", "https://app.example,null"),
        ("allow_host", "http://chat.example"),
        ("metrics_listen", "9100"),
        ("trusted_proxy", "10.0.0.0/8,nobody"),
    ],
)
def test_a_complaint_names_flag_and_source(flag: str, value: str) -> None:
    name = flag.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^--{name}: "):
        load_settings({flag: value}, {}, None)
    variable = f"CHATSERVER_{flag.upper()}"
    with pytest.raises(ConfigError, match=rf"^--{name}: .* \(from {variable}\)$"):
        load_settings({}, {variable: value}, None)
