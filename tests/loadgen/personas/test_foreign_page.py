"""Another site's page: each of its requests is valid in the eyes of h11 and wsproto, and foreign by one field."""

from __future__ import annotations

import pytest
import wsproto
from wsproto import events

from loadgen.personas.malformed import foreign_cases
from tests.loadgen.stage import listening, parsed, playing, until

CASES = foreign_cases("x:1", "/", "/rooms/foreign-page/messages", "/ws")


@pytest.mark.parametrize("name", CASES)
def test_what_it_asks_is_valid_and_says_where_it_comes_from(name: str) -> None:
    request, _ = parsed(CASES[name])
    fields = dict(request.headers)
    by_another_name = fields[b"host"] == b"page.invalid"
    assert by_another_name is name.endswith("by another name")
    assert by_another_name or b"cross-site" in fields.values() or fields[b"origin"] == b"http://page.invalid"
    if name.startswith("WebSocket"):
        server = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        server.receive_data(CASES[name])
        assert isinstance(next(server.events()), events.Request)
    elif name.startswith("text"):
        assert (request.method, fields[b"content-type"]) == (b"POST", b"text/plain"), "which needs no permission"


def test_no_two_are_the_same() -> None:
    assert len(set(CASES.values())) == len(CASES)


async def test_what_was_taken_is_booked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadgen.personas._cases.PAUSE_SECONDS", 0.01)
    taken, *refused = CASES.values()
    async with listening() as server, playing(server.url, "foreign-page", host="x:1") as play:
        for request in CASES.values():
            stream = await server.accept()
            got = b""
            while len(got) < len(request):
                got += await stream.receive_some()
            assert got == request
            status = 101 if request == taken else 421 if request == refused[-1] else 403
            await stream.send_all(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)
        await until(lambda: play.cohort.left == len(CASES))
        assert play.cohort.answers == {
            "answered 101": 1,
            "WebSocket from another origin: answered 101": 1,
            "answered 403": len(refused) - 1,
            "answered 421": 1,
        }
