"""What --request, --header and --victim say of requests reaches attackers and victims alike."""

from __future__ import annotations

from random import Random

import pytest

from loadgen.client import Place
from loadgen.common import Loading
from loadgen.target import Endpoint, UsageError
from tests.loadgen.stage import meeting, parsed, read_until

BEARER = "Authorization: Bearer t"


@pytest.mark.parametrize("persona", ["slow-read", "poll", "sse", "descriptor-exhaust", "ask-the-log", "big-body"])
async def test_the_fields_of_the_command_line_are_in_every_request(persona: str) -> None:
    """Without them a server that asks for a token answered 401, and an attack that did not take place was held."""
    async with meeting(persona, endpoint=Endpoint(fields=(BEARER,))) as (_, stream):
        request, _ = parsed(await read_until(stream, lambda data: b"\r\n\r\n" in data))
    assert dict(request.headers)[b"authorization"] == b"Bearer t"


def test_a_persona_s_own_field_is_the_only_one_of_its_name() -> None:
    """One that sends bad tokens sends no good one beside them."""
    place = Place(
        host="x", rooms=(), poll_wait_seconds=1.0, random=Random(1), endpoint=Endpoint(fields=(BEARER, "A: 1"))
    )
    told = place.request("GET", "/", "authorization: Bearer bad")
    assert told == b"GET / HTTP/1.1\r\nHost: x\r\nA: 1\r\nauthorization: Bearer bad\r\n\r\n"


async def test_a_body_is_sent_to_the_path_of_the_request() -> None:
    """A slow body could be sent to a chat alone: at any other server it met a 404."""
    endpoint = Loading(request="POST /api/{id}").endpoint()
    async with meeting("slow-body", endpoint=endpoint) as (_, stream):
        request, _ = parsed(await read_until(stream, lambda data: b"\r\n\r\n" in data))
    assert (request.method, request.target) == (b"POST", b"/api/{id}")


def test_victims_that_fetch_a_page_do_not_send_the_request() -> None:
    endpoint = Loading(request="POST /api").endpoint("/page")
    assert (endpoint.method, endpoint.path, endpoint.post_path) == ("GET", "/page", "/api")
    assert Loading(request="PUT /api").endpoint().post_path == ""


def test_who_fetches_a_page_does_not_fetch_what_is_posted_to() -> None:
    """Beside victims that echo, all who read pages asked for it, were answered 405, and were not exercised."""
    endpoint = Loading(request="POST /api", path="/page").endpoint()
    assert (endpoint.path, endpoint.post_path, endpoint.request_path) == ("/page", "/api", "/api")
    assert Loading(request="PUT /api").endpoint().request_path == "/api"


def test_a_second_page_is_refused() -> None:
    with pytest.raises(UsageError, match="--path"):  # it was ignored
        Loading(path="/large").endpoint("/")
