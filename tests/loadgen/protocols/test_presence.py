"""Who a chat says is in a room, and what may be expected of that."""

import json
import math
from functools import partial

import pytest
import trio

from loadgen.clients.messages import Reread
from loadgen.net import target
from loadgen.net.timers import NEVER, now
from loadgen.protocols import presence
from loadgen.protocols.chat_v1 import PollVictim, WebSocketVictim
from loadgen.protocols.presence import GRACE_SECONDS, Expected
from loadgen.victims.probe import Context, Schedule
from loadgen.victims.victim import Victim
from tests.loadgen.stage import answering


def _members(number: int) -> bytes:
    body = json.dumps({"members": [{"id": "g"}] * number})
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


HERE, GONE = Expected(1, math.inf), Expected(0, 1)


@pytest.mark.parametrize(
    ("answers", "expected", "found"),
    [
        ([_members(1)], HERE, Reread(rooms=1)),
        ([_members(0)], HERE, Reread(rooms=1, members_wrong=1)),
        ([_members(0), _members(2)], HERE, Reread(rooms=1)),  # another process may tell of it a moment later
        ([_members(1)], GONE, Reread(rooms=1)),
        ([_members(3)], GONE, Reread(rooms=1, members_wrong=2)),
        ([b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n"], HERE, Reread()),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere"], HERE, Reread()),
        ([b""], HERE, Reread()),
    ],
)
async def test_a_list_of_members_is_asked_for_until_it_is_right(
    answers: list[bytes], expected: Expected, found: Reread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "RETRY_SECONDS", 0.01)
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        while request := await stream.receive_some():
            asked.append(request.split(b"\r\n")[0])
            await stream.send_all(answers[min(len(asked), len(answers)) - 1])
            if not answers[0]:
                return

    async with answering(serve) as port:
        context = Context(target.find(f"http://127.0.0.1:{port}"), "run")
        patience = trio.current_time() + (60.0 if answers[1:] else 0.1)
        assert await presence.check(context, "run-0", 0, lambda: expected, patience) == found
    assert set(asked) == {b"GET /rooms/run-0/members HTTP/1.1"}


@pytest.mark.parametrize("kind", [WebSocketVictim, PollVictim])
def test_a_victim_is_expected_while_its_websocket_is_open(kind: type[Victim]) -> None:
    victim = kind(Context(target.find("http://127.0.0.1:1"), "run"), 0, Schedule(0.0, 1.0))
    expected = partial(presence.of_victim, victim)
    assert expected() == Expected(0, math.inf)
    victim.connected()
    assert expected() == Expected(int(kind is WebSocketVictim), math.inf)


def test_newcomers_are_expected_until_a_while_after_they_left() -> None:
    context, moment = Context(target.find("http://127.0.0.1:1"), "run"), now()
    context.newcomers_left["new"] = {0: moment - GRACE_SECONDS - 60, 64: moment - GRACE_SECONDS + 60, 128: NEVER}
    assert presence.of_newcomers(context, "new") == Expected(0, 2)
