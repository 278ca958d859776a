"""Bad tokens: every one is another one, and bad in one way alone."""

from __future__ import annotations

import jwt
import pytest
import trio

from loadgen.personas import bad_tokens
from loadgen.personas.bad_tokens import bad_token
from tests.loadgen.stage import answer, listening, parsed, playing, read_until, until

KEY = "a secret of at least thirty-two bytes"


def test_each_is_another_one_and_short_enough_to_be_looked_at() -> None:
    tokens = [bad_token(number) for number in range(800)]
    assert len(set(tokens)) == len(tokens)
    assert 3_000 < max(map(len, tokens)) < 4_096


@pytest.mark.parametrize(
    ("number", "trouble"),
    [(0, jwt.DecodeError), (1, jwt.InvalidSignatureError), (2, jwt.InvalidAlgorithmError)]
    + [(number, jwt.InvalidSignatureError) for number in range(3, 8)],
)
def test_what_is_wrong_with_it(number: int, trouble: type[Exception]) -> None:
    """All but the noise are whole, and their claims are in order, so that nothing but the signature tells."""
    with pytest.raises(trouble):
        jwt.decode(bad_token(number), KEY, algorithms=["HS256"])
    if number:
        claims = jwt.decode(bad_token(number), options={"verify_signature": False, "require": ["sub", "exp"]})
        assert claims["sub"] == f"u_{number}"


async def _asked(stream: trio.SocketStream) -> tuple[bytes, str]:
    request, _ = parsed(await read_until(stream, lambda got: b"\r\n\r\n" in got and not got.endswith(b":")))
    return request.target, dict(request.headers)[b"authorization"].decode()


async def test_it_asks_again_at_once_with_another_token() -> None:
    async with listening() as server, playing(server.url, "bad-tokens", clients=2) as play:
        targets, tokens = set(), set()
        for _ in range(2):
            stream = await server.accept()
            for status in (401, 403, 429, 401):
                target, token = await _asked(stream)
                targets.add(target)
                tokens.add(token)
                assert token.startswith("Bearer ")
                await answer(stream, status, b"{}")
        assert targets == {b"/rooms/bad-tokens/messages", b"/ws"}
        assert len(tokens) == 8
        await until(lambda: play.cohort.answers == {"answered 401": 4, "answered 403": 2, "answered 429": 2})


async def test_a_websocket_that_it_is_given_is_booked_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bad_tokens, "ATTACKER_RETURNS_SECONDS", 0.01)
    async with listening() as server, playing(server.url, "bad-tokens", clients=2) as play:
        for _ in range(2):
            stream = await server.accept()
            target, _ = await _asked(stream)
            if target == b"/ws":
                await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x02{}")
                assert await stream.receive_some() == b""
        await until(lambda: play.cohort.answers == {"answered 101": 1})
        assert (await _asked(await server.accept()))[0] == b"/ws", "it comes back"
