"""The source of a request, the names of the server, and the rights of pages of other sites."""

from collections.abc import Mapping
from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatserver.api.origins import Caller, caller_of, check_foreign, forbidden, origin_policy
from chatserver.protocol.errors import HttpError
from chatserver.protocol.head import BodyKind, Head
from chatserver.reasons import ErrorCode

APP = "https://app.example"
EVIL = "https://evil.example"
OWN, ALLOWED, FOREIGN = Caller.OWN, Caller.ALLOWED, Caller.FOREIGN

PLAIN = origin_policy(bound=["127.0.0.1"], origins=[APP, "http://localhost:3000"], hosts=["chat.example"])
SECURE = origin_policy(bound=["192.0.2.1", "::1"], origins=[], hosts=["Chat.Example."])
ANYWHERE = origin_policy(bound=["0.0.0.0"], origins=[], hosts=[])
ANYWHERE_NAMED = origin_policy(bound=["::", "192.0.2.1"], origins=[], hosts=["chat.example"])


def head_of(method: str, headers: Mapping[str, str]) -> Head:
    return Head(method, "/rooms", "", dict(headers), BodyKind.NONE, 0, True, False, "1.1")


def fields(host: str | None = "127.0.0.1:8000", origin: str | None = None, site: str | None = None) -> dict[str, str]:
    given = {"host": host, "origin": origin, "sec-fetch-site": site}
    return {name: value for name, value in given.items() if value is not None}


OURS = "http://127.0.0.1:8000"


def test_the_source_of_a_request() -> None:
    for site, source, origins in (
        # no page at all, our own, and our own behind a proxy that ends TLS
        (None, OWN, (None, OURS)),
        ("none", OWN, (None,)),
        ("same-origin", OWN, (None, OURS, "https://127.0.0.1:8000")),
        # other pages of this machine, other schemes, other names, and malformed origins
        (None, FOREIGN, ("http://127.0.0.1:8001", "http://127.0.0.1", "http://localhost:8000", EVIL, "null", "")),
        (None, FOREIGN, ("HTTP://127.0.0.1:8000", "ws://127.0.0.1:8000", "//127.0.0.1:8000", f"{OURS}, {OURS}")),
        (None, FOREIGN, (f"{OURS}.evil.example", "http://evil.example/127.0.0.1:8000", f"{OURS}@evil.example")),
        ("same-origin", FOREIGN, (EVIL, "null")),
        ("none", FOREIGN, (EVIL,)),
        # Sec-Fetch-Site
        ("cross-site", FOREIGN, (None, OURS, EVIL, "http://app.example", f"{APP}:8443", "https://www.app.example")),
        ("same-site", FOREIGN, (None, OURS, "http://127.0.0.1:8001")),
        *((site, FOREIGN, (None,)) for site in ("", "Same-Origin", "same-origin, same-origin")),
        # allowed origins
        *((site, ALLOWED, (APP, "http://localhost:3000")) for site in (None, "cross-site", "same-site")),
    ):
        for origin in origins:
            assert caller_of(fields(origin=origin, site=site), PLAIN, secure=False) is source, origin


def test_the_source_of_a_request_under_other_names() -> None:
    for held, host, origin, site, source in (
        # scheme and default port of our own page
        (PLAIN, "chat.example", "http://chat.example", None, OWN),
        (PLAIN, "chat.example:80", "http://chat.example", None, OWN),
        (PLAIN, "chat.example:443", "https://chat.example", None, OWN),
        (PLAIN, "Chat.Example", "http://chat.example", None, OWN),
        (PLAIN, "chat.example:443", "http://chat.example", None, FOREIGN),
        (SECURE, "chat.example:443", "https://chat.example", None, OWN),
        (SECURE, "[::1]:8443", "https://[::1]:8443", None, OWN),
        (SECURE, "chat.example:80", "https://chat.example", None, FOREIGN),
        # a page loaded over http may be changed on its way
        (SECURE, "chat.example", "http://chat.example", None, FOREIGN),
        # without a host it may read public rooms
        (PLAIN, None, None, None, FOREIGN),
        (PLAIN, None, APP, None, FOREIGN),
        (ANYWHERE, None, None, None, OWN),
        (ANYWHERE, None, EVIL, None, FOREIGN),
        (ANYWHERE, None, None, "cross-site", FOREIGN),
    ):
        assert caller_of(fields(host, origin, site), held, secure=held is SECURE) is source, (host, origin, site)


def test_which_names_are_ours() -> None:
    for held, ours, others in (
        (
            PLAIN,
            "127.0.0.1 127.0.0.1:8000 127.0.0.1:1 127.0.0.1: localhost:8000 LOCALHOST localhost.",
            "127.0.0.2 [::1]",
        ),
        (PLAIN, "chat.example:8000", "evil.example:8000 chat.example.evil.example evil-chat.example 192.0.2.1:8000"),
        (PLAIN, "", "localhost.evil.example 127.0.0.1.evil.example 127.0.0.1%25.evil.example evil.example"),
        (SECURE, "[::1] [0:0:0:0:0:0:0:1]:443 192.0.2.1 chat.example", "127.0.0.1"),
        (ANYWHERE, "evil.example 192.0.2.7:8000", ""),  # without a configured name and with any address it cannot know
        # DNS cannot point an address elsewhere
        (ANYWHERE_NAMED, "chat.example 192.0.2.7:8000 [2001:db8::7]:8000 localhost", "evil.example 1.1.1.1%.example"),
    ):
        for host in ours.split():
            assert caller_of(fields(host), held, secure=False) is OWN, host
        for host in others.split():
            with pytest.raises(HttpError, match="is not a name of this server") as caught:
                caller_of(fields(host), held, secure=False)
            assert caught.value.code is ErrorCode.MISDIRECTED


def test_bound_names_are_ours_in_any_spelling() -> None:
    held = origin_policy(bound=["MyHost.", "[FE80::1%eth0]", "bücher.example"], origins=[], hosts=[])
    for host in ("myhost:8000", "[fe80:0::1]:8000", "[fe80::1%25eth0]:8000", "localhost"):
        assert caller_of(fields(host), held, secure=False) is OWN


def is_forbidden(method: str, **headers: str) -> bool:
    """Whether a foreign page may not make this request."""
    try:
        check_foreign(head_of(method, {**fields(origin=EVIL), **headers}))
    except HttpError as error:
        return error.code is ErrorCode.FORBIDDEN
    return False


def test_a_foreign_page_cannot_write_or_read_as_the_user() -> None:
    methods = "GET HEAD POST PUT PATCH DELETE OPTIONS QUERY get".split()
    assert [method for method in methods if not is_forbidden(method)] == ["GET", "HEAD"]
    for name, value in (
        ("cookie", "chat_session=x"), ("authorization", "Bearer x"), ("upgrade", "websocket"), ("cookie", ""),
    ):  # fmt: skip
        assert is_forbidden("GET", **{name: value}), name


def test_the_refusal_names_the_field_that_shows_the_origin() -> None:
    for headers, shown in (
        (fields(origin=EVIL, site="cross-site"), f"Origin: {EVIL}"),
        (fields(site="same-site"), "Sec-Fetch-Site: same-site"),
        (fields(None), "without Host may not do this; send Host"),
    ):
        assert shown in forbidden(head_of("GET", headers)).message


# -- any fields ------------------------------------------------------------------------------------------

# Hosts are built of labels: a regular expression takes twenty times as long to draw.
LABELS = st.text(f"{ascii_lowercase}{digits}-", max_size=9).map(lambda text: f"n{text}".rstrip("-"))
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
PORTS = st.integers(1, 65_535)
SITES = st.sampled_from([None, "none", "same-origin", "same-site", "cross-site"]) | st.text(max_size=12)


@given(host=NAMES, port=PORTS, theirs=NAMES, their_port=PORTS, site=SITES, secure=st.booleans(), tls=st.booleans())
def test_a_page_of_another_host_or_port_is_foreign(
    *, host: str, port: int, theirs: str, their_port: int, site: str | None, secure: bool, tls: bool
) -> None:
    held = origin_policy(bound=["127.0.0.1"], origins=[], hosts=[host])
    origin = f"{'https' if tls else 'http'}://{theirs}:{their_port}"
    found = caller_of(fields(f"{host}:{port}", origin, site), held, secure=secure)
    same = (host, port) == (theirs, their_port) and (tls or not secure) and site in (None, "none", "same-origin")
    assert found is (OWN if same else FOREIGN)


@given(
    host=NAMES, port=PORTS, secure=st.booleans(), capitals=st.booleans(), site=st.sampled_from([None, "same-origin"])
)
def test_our_own_page_is_never_foreign(*, host: str, port: int, secure: bool, capitals: bool, site: str | None) -> None:
    """A browser writes both fields without the default port of the scheme."""
    held = origin_policy(bound=["127.0.0.1"], origins=[], hosts=[host])
    scheme, default = ("https", 443) if secure else ("http", 80)
    authority = host if port == default else f"{host}:{port}"
    asked = authority.upper() if capitals else authority
    assert caller_of(fields(asked, f"{scheme}://{authority}", site), held, secure=secure) is OWN
