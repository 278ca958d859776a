"""A proxy that signs people in by a header, which is read from trusted proxies only."""

from collections.abc import Mapping
from typing import Any

import pytest

from chatserver.settings.fields import Settings
from chatserver.settings.spec import ConfigError
from tests.api.asking import cookie
from tests.support.peers import ask, chatter, connect, request
from tests.support.serving import Serving, serving
from tests.support.tokens import token

TRUSTED: dict[str, Any] = {"user_header": "X-Forwarded-User", "trusted_proxy": ("127.0.0.1",)}
STRANGER = "127.0.0.2"


async def who(server: Serving, headers: Mapping[str, str], *, source: str = "") -> Any:
    return (await ask(server.address, "GET", "/session", headers=headers, source=source)).json


async def test_a_user_named_by_a_trusted_proxy_has_signed_in() -> None:
    async with serving(**TRUSTED) as server:
        ann = {"X-Forwarded-User": "ann", "X-Forwarded-For": "198.51.100.7"}
        told = await who(server, ann)
        assert (told["user"], told["guest"], told["expires"]) == ({"id": "ann", "name": "ann"}, False, None)
        said = await ask(server.address, "POST", "/rooms/lobby/messages", b"hi", headers=ann)
        assert said.json["user"]["id"] == "ann"
        async with chatter(server.address, headers=ann) as friend:
            assert friend.hello["user"]["id"] == "ann"
            assert "set-cookie" not in friend.handshake.headers
            assert (await ask(server.address, "DELETE", "/session", headers=ann)).status == 204
            assert (await friend.ask("ping"))["type"] == "pong", "only the proxy can sign its users out"
        assert "set-cookie" not in (await ask(server.address, "GET", "/", headers=ann)).headers
        made = await ask(server.address, "POST", "/session", headers=ann)
        assert (made.status, made.json["token"], "set-cookie" in made.headers) == (201, "", False)
        for nobody in ({}, {"X-Forwarded-User": ""}):
            assert (await who(server, {"X-Forwarded-For": "198.51.100.7", **nobody}))["guest"]
        guest = (await ask(server.address, "POST", "/session")).json["token"]
        assert (await who(server, {**ann, "Cookie": f"chat_session={guest}"}))["user"]["id"] == "ann"
        assert (await who(server, {**ann, "Authorization": f"Bearer {guest}"}))["guest"], "a bearer takes precedence"


async def test_the_cookie_of_a_user_who_has_signed_in_takes_precedence(key: str) -> None:
    async with serving(**TRUSTED, token_key=(key,)) as server:
        told = await who(server, {"X-Forwarded-User": "bob", **cookie(token())})
        assert told["user"]["id"] == "u_ann"


async def test_the_header_of_any_other_peer_is_ignored() -> None:
    async with serving(**TRUSTED) as server:
        for _ in range(2):
            assert (await who(server, {"X-Forwarded-User": "ann"}, source=STRANGER))["guest"]
    async with serving(trusted_proxy=("127.0.0.1",)) as server:
        assert (await who(server, {"X-Forwarded-User": "ann"}))["guest"], "the header is not configured"


async def test_a_client_cannot_send_it_through_a_tcp_balancer() -> None:
    """A balancer that sends a PROXY header forwards the HTTP fields of the client unchanged."""
    async with serving(**TRUSTED, proxy_protocol=True) as server, connect(server.address) as peer:
        await peer.send(b"PROXY TCP4 198.51.100.7 127.0.0.1 5000 80\r\n")
        await peer.send(request("GET", "/session", headers={"X-Forwarded-User": "ann"}))
        assert (await peer.response()).json["guest"]


async def test_an_invalid_name_is_refused_with_the_reason() -> None:
    """An operator whose proxy sent the name of a certificate read of a token that was not valid."""
    async with serving(**TRUSTED) as server:
        for value, reason in (
            ("g_2d4a90c4b1f0e37", "begins the id of a guest"),
            ("ann, bob", "without a comma"),
            ("CN=Ann,O=Example", "without a comma"),
            ("x" * 65, "1 to 64 printable characters"),
            ("a\x80b", "1 to 64 printable characters"),
            ("a\xffb", "1 to 64 printable characters"),
        ):
            answer = await ask(server.address, "GET", "/session", headers={"X-Forwarded-User": value})
            assert (answer.status, answer.error) == (401, "unauthenticated"), value
            message = answer.json["error"]["message"]
            assert message.startswith("the proxy's x-forwarded-user: "), message
            assert reason in message


def test_the_setting_needs_a_header_of_its_own() -> None:
    for name in ("Cookie", "a b", "x:"):
        with pytest.raises(ConfigError, match="--user-header: "):
            Settings(user_header=name, trusted_proxy=("127.0.0.1",))
