"""Refusals are counted by their error code, however the request came."""

from tests.support.peers import ask, chatter
from tests.support.serving import Serving, serving


def _refused(server: Serving) -> dict[str, int]:
    """The codes that were refused so far."""
    counts = server.server.parts.stats.refusals
    return {code.code: count for code, count in counts.items() if count}


async def test_operators_see_how_many_requests_and_commands_are_refused_and_why() -> None:
    """No metric told that users were being limited: 429 closes no connection."""
    async with serving(publish_rate=0.01) as server, chatter(server.address) as friend:
        message, path = {"text": "hi"}, "/rooms/lobby/messages"
        statuses = [(await ask(server.address, "POST", path, message)).status for _ in range(3)]
        assert (statuses.count(201), statuses.count(429)) == (1, 2)
        answers = [await friend.ask("publish", room="lobby", text="hi") for _ in range(2)]
        assert [answer["type"] for answer in answers] == ["ack", "error"]
        assert await server.metric("chatserver_refusals_total", code="rate_limited") == 3
        assert _refused(server) == {"rate_limited": 3}


async def test_refusals_by_the_log_are_counted_too() -> None:
    async with serving() as server, chatter(server.address) as friend:
        assert (await ask(server.address, "PATCH", "/rooms/lobby/messages/9", {"text": "hi"})).status == 404
        assert (await friend.ask("edit", room="lobby", offset=9, text="hi"))["code"] == "not_found"
        assert (await friend.ask("auth", token="none"))["code"] == "unauthenticated"
        assert (await friend.ask("history", room="lobby", after="none"))["code"] == "bad_cursor"
        assert _refused(server) == {"not_found": 2, "unauthenticated": 1, "bad_cursor": 1}
