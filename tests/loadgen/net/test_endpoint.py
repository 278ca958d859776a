"""What --request, --header and --victim say of requests reaches attackers and victims alike."""

from random import Random

import pytest
import trio

from loadgen.clients.cohort import Place
from loadgen.common import Loading
from loadgen.net import target
from loadgen.net.target import Endpoint, UsageError
from loadgen.net.timers import now
from loadgen.protocols.http import GetVictim
from loadgen.victims.probe import Context, Schedule
from tests.loadgen.stage import listening, meeting, parsed, read_until, request_of

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


@pytest.mark.parametrize(
    ("asked", "page", "path", "post_path"),
    [
        ({"request": "POST /api"}, "/page", "/page", "/api"),
        # beside victims that echo, all who read pages asked for it, were answered 405, and were not exercised
        ({"request": "POST /api", "path": "/page"}, None, "/page", "/api"),
        ({"request": "PUT /api"}, None, "/api", ""),
        ({"request": "PUT /api"}, "/page", "/page", ""),
    ],
)
def test_who_fetches_a_page_does_not_fetch_what_is_asked_at_a_rate(
    asked: dict[str, str], page: str | None, path: str, post_path: str
) -> None:
    endpoint = Loading(**asked).endpoint(page)  # type: ignore[arg-type]
    assert (endpoint.path, endpoint.post_path, endpoint.request_path) == (path, post_path, "/api")


async def test_a_victim_that_gets_does_not_post() -> None:
    """Of `--victim chat` some fetch pages: they posted what --request says, and a report called that GET."""
    async with listening() as server:
        context = Context(target.find(server.url), "t", endpoint=Loading(request="POST /api").endpoint())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(GetVictim(context, 0, Schedule(now() + 3600, 1.0)).run)
            stream = await server.accept()
            request = await request_of(stream)
            assert (request.method, request.target) == (b"GET", b"/")
            nursery.cancel_scope.cancel()


def test_a_second_page_is_refused() -> None:
    with pytest.raises(UsageError, match="--path"):  # it was ignored
        Loading(path="/large").endpoint("/")
