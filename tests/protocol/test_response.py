from typing import Any
from urllib.parse import parse_qsl

import h11
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chatserver.protocol.errors import HttpError, MessageError
from chatserver.protocol.response import (
    CONTINUE,
    MAX_COOKIES,
    MAX_QUERY_FIELDS,
    cookie,
    date_line,
    error_body,
    error_response,
    query_fields,
    response_head,
    with_retry_after,
)
from chatserver.reasons import ErrorCode
from tests.support.errors import error_of


def response(status: int, body: bytes, **options: Any) -> bytes:
    """A complete answer in JSON."""
    return response_head(status, len(body), **options) + body


def judged(wire: bytes, method: str = "GET") -> tuple[h11.Response, bytes, bool]:
    """An answer as h11's client reads it: the response, its body, and whether another may follow."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(wire)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    assert client.trailing_data == (b"", False)
    return head, body, client.their_state is h11.DONE


def test_h11_reads_what_we_write() -> None:
    for keep_alive in (True, False):
        for status in (200, 201, *{code.status for code in ErrorCode}):
            wire = response(status, b'{"a":1}', headers=(("Retry-After", "3"),), keep_alive=keep_alive)
            head, body, may_go_on = judged(wire)
            fields = dict(head.headers)
            assert (head.status_code, body, may_go_on) == (status, b'{"a":1}', keep_alive)
            assert (fields[b"content-length"], fields[b"content-type"]) == (b"7", b"application/json")
            assert (fields[b"retry-after"], fields[b"x-content-type-options"]) == (b"3", b"nosniff")
            options = [b"keep-alive" if keep_alive else b"close", *[b"upgrade"] * (status == 426)]  # section 7.8
            assert fields[b"connection"].split(b", ") == options, status


def test_answers_without_a_body() -> None:
    """RFC 9110 section 8.6: no Content-Length with 204, and with 304 only that of the body which the client has; for a
    HEAD, the length that the body would have.
    """
    for keep_alive in (True, False):
        for status in (204, 304):
            refused = HttpError(ErrorCode.NOT_FOUND, "no")
            whole = error_response(refused, keep_alive=keep_alive)
            wire = error_response(refused, keep_alive=keep_alive, head_only=True)
            head, body, may_go_on = judged(wire, "HEAD")
            assert (body, may_go_on) == (b"", keep_alive)
            assert len(whole) == len(wire) + int(dict(head.headers)[b"content-length"])
            assert whole.startswith(wire)
            head, body, may_go_on = judged(response(status, b"", headers=(("Vary", "Origin"),), keep_alive=keep_alive))
            assert (head.status_code, body, may_go_on) == (status, b"", keep_alive)
            assert {b"content-length", b"content-type"}.isdisjoint(dict(head.headers))
            assert dict(head.headers)[b"vary"] == b"Origin"


def test_an_answer_that_is_made_when_sent_has_its_date() -> None:
    head, _, _ = judged(response(204, b"", date=date_line(784_111_777)))
    assert dict(head.headers)[b"date"] == b"Sun, 06 Nov 1994 08:49:37 GMT", "RFC 9110 section 5.6.7"
    assert b"date" not in dict(judged(response(503, b""))[0].headers)


def test_the_interim_answer_is_100_continue() -> None:
    client = h11.Connection(h11.CLIENT)
    fields = [("Host", "h"), ("Expect", "100-continue"), ("Content-Length", "1")]
    client.send(h11.Request(method="POST", target="/", headers=fields))
    client.receive_data(CONTINUE)
    event = client.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert event.status_code == 100


def test_a_line_break_in_a_header_of_ours_raises() -> None:
    for field in (("X", "a\r\nSet-Cookie: b"), ("X\n", "a"), ("X", "a\0")):
        assert "line break" in str(error_of(ValueError, lambda field: response(200, b"", headers=(field,)), field))
    with pytest.raises(ValueError, match="line break"):
        response_head(200, 0, content_type="text/plain\r\nX: y")


def test_errors_are_complete_answers() -> None:
    assert error_body(ErrorCode.BAD_ROOM, "no") == b'{"error":{"code":"bad_room","message":"no"}}\n'
    refused = HttpError(ErrorCode.METHOD_NOT_ALLOWED, "no", headers=(("Allow", "GET"),))
    head, body, may_go_on = judged(error_response(refused, headers=(("Retry-After", "1"),)))
    assert (head.status_code, may_go_on) == (405, False)
    assert {(b"allow", b"GET"), (b"retry-after", b"1")} <= set(head.headers)
    assert msgspec.json.decode(body)["error"]["code"] == "method_not_allowed"
    head, body, may_go_on = judged(error_response(MessageError(ErrorCode.BAD_FIELD, "no"), keep_alive=True))
    assert (head.status_code, may_go_on) == (400, True)


@given(st.text(alphabet="ab=&+%2x ;c3", max_size=40) | st.text())
@example("q=%C3%BC")
@example("q=100%")
@example("room=lobby%3Ak3f9-41&q=x+y&a=1;b=2&=b&&c")
def test_a_query_means_what_the_standard_library_says(query: str) -> None:
    try:
        expected = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        with pytest.raises(HttpError):
            query_fields(query)
    else:
        assert query_fields(query) == expected


def test_bad_queries_are_refused() -> None:
    for query in ("q=%ff", "%c3=1", "q=%ed%a0%80", "&".join(["a=1"] * (MAX_QUERY_FIELDS + 1))):
        assert error_of(HttpError, query_fields, query).code.status == 400


def test_a_cookie_is_found_by_name() -> None:
    for value, expected in (
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "1"}),
        ('a="1"; junk; =x;; b = 2 ', {"a": "1", "b": "2"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("xa=1; a.b=2; b=a=3; ab=4", {"a": None, "b": "a=3", "a.b": "2"}),
        ("a; b=2", {"a": None, "b": "2"}),
        ("", {"a": None}),
    ):
        assert {name: cookie(value, name) for name in expected} == expected, value


def test_no_more_cookies_are_looked_at_than_browsers_keep() -> None:
    """8,000 cookies in 16 KiB would take 0.6 ms."""
    assert cookie("x=y;" * (MAX_COOKIES - 1) + "a=1", "a") == "1"
    assert cookie("x=y;" * MAX_COOKIES + "a=1", "a") is None


def test_retry_after_is_added_to_a_shared_answer() -> None:
    plain = response(200, b'{"Retry-After: ": 1}')
    added = with_retry_after(plain, 3)
    assert added == response(200, b'{"Retry-After: ": 1}').replace(b"OK\r\n", b"OK\r\nRetry-After: 3\r\n", 1)
    assert with_retry_after(added, 9) == added, "the answer has one already"
