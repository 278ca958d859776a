"""Keys published by a provider: when they are fetched, and the limits of a fetch."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from chatserver.api import published_keys
from chatserver.api.keys import MAX_KEY_BYTES, Key, KeyRing
from chatserver.api.published_keys import FETCH_EVERY, PublishedKeys
from chatserver.settings.forms import keys_url
from tests.api.asking import cookie
from tests.support.key_provider import provider
from tests.support.peers import ask, connect, upgrade
from tests.support.serving import eventually, serving
from tests.support.tokens import jwk, token


async def test_a_key_that_is_rotated_is_fetched_when_a_token_names_it() -> None:
    with provider() as it:
        it.publish(jwk("ES256", kid="one"), jwk("HS256", kid="secret"))
        async with serving(token_jwks=it.url) as server:

            async def answer(number: int, kid: str, algorithm: str = "ES256") -> Any:
                headers = {"Authorization": f"Bearer {token(algorithm, number, kid=kid)}"}
                return await ask(server.address, "GET", "/session", headers=headers)

            async def holds(number: int, kid: str) -> bool:
                found: int = (await answer(number, kid)).status
                return found == 200

            await eventually(lambda: holds(0, "one"))
            assert (await answer(0, "secret", "HS256")).status == 401, "a published secret is not used"
            it.publish(jwk("ES256", 1, kid="two"))
            assert "retry-after" not in (await answer(1, "two")).headers, "the last fetch is a moment ago"
            assert it.asked == 1
            published = server.server._published
            assert published is not None
            published._began -= FETCH_EVERY
            assert (await answer(1, "two")).headers["retry-after"] == "1"
            await eventually(lambda: holds(1, "two"))
            assert not await holds(0, "one"), "the key is withdrawn"
            server.server._reload()
            await eventually(lambda: it.asked == 3)


@pytest.mark.parametrize("kid", ["one", None])
async def test_a_sign_in_survives_that_the_provider_is_away_at_the_start(kid: str | None) -> None:
    """A browser whose user counted as a guest meanwhile would get a guest's cookie in place of the token."""
    with provider() as it:
        it.status = 503
        mine = cookie(token("ES256", kid=kid))
        async with serving(token_jwks=it.url) as server:
            await eventually(lambda: it.asked == 1)
            page = await ask(server.address, "GET", "/", headers=mine)
            assert (page.status, "set-cookie" in page.headers) == (200, False)
            async with connect(server.address) as peer:
                await peer.send(upgrade(headers=mine))
                refused = [await peer.response()]
            for method, path in (("GET", "/session"), ("POST", "/rooms/lobby/messages")):
                refused.append(await ask(server.address, method, path, b"hi", headers=mine))
            assert [(each.status, each.headers["retry-after"]) for each in refused] == [(401, "1")] * 3
            it.status = 200
            it.publish(jwk("ES256", kid="one"))
            server.server._reload()

            async def is_back() -> bool:
                answer = await ask(server.address, "GET", "/session", headers=mine)
                return answer.status == 200 and answer.json["user"]["id"] == "u_ann"

            await eventually(is_back)
            stranger = cookie(token("ES256", 1, kid="two"))
            assert (await ask(server.address, "GET", "/session", headers=stranger)).json["guest"], "it counts as none"


class Looker:
    """One `PublishedKeys` with a fetch that the test controls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fetches: list[float] = []
        self.answer: bytes | Exception = json.dumps(jwk("ES256")).encode()
        monkeypatch.setattr(published_keys, "fetched", self._fetched)
        self.takes = 0.0
        self.published = PublishedKeys("https://id.example/keys")
        self.keys = KeyRing(published=self.published)
        monkeypatch.setattr(trio.to_thread, "run_sync", self._run)

    async def _run(self, fetch: Callable[[], list[Key]], *, abandon_on_cancel: bool) -> list[Key]:
        assert abandon_on_cancel
        self.fetches.append(trio.current_time())
        await trio.sleep(self.takes)
        return fetch()

    def _fetched(self, url: str) -> bytes:
        assert url == "https://id.example/keys"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_keys_are_fetched_until_an_answer_and_then_at_most_once_a_minute(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looker = Looker(monkeypatch)
    looker.answer = OSError("connection refused")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looker.published.run)
        await trio.sleep(190)
        early = [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 63.0]
        assert looker.fetches == [*early, 123.0, 183.0]
        looker.answer = json.dumps(jwk("ES256")).encode()
        await trio.sleep(1000)
        assert looker.fetches == [*early, 123.0, 183.0, 243.0]
        assert len(looker.keys) == 1
        looker.takes = 5.0
        assert [looker.keys.fetch_unknown() for _ in range(3)] == [True] * 3
        await trio.sleep(1)
        assert looker.keys.fetch_unknown(), "a fetch is running"
        await trio.sleep(30)
        assert not looker.keys.fetch_unknown()
        looker.takes, looker.answer = 1000.0, b"{}"
        await trio.sleep(40)
        assert looker.keys.fetch_unknown()
        await trio.sleep(30)
        assert len(looker.fetches) == len(early) + 5
        assert not looker.keys.fetch_unknown(), "it is given up"
        assert len(looker.keys) == 1, "the earlier keys stay"
        nursery.cancel_scope.cancel()


async def test_a_key_that_the_provider_withdraws_is_given_up_within_an_hour(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was believed until a token named an unknown key, or a SIGHUP: a key that had leaked perhaps for months."""
    looker = Looker(monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looker.published.run)
        await trio.sleep(1)
        [leaked] = looker.keys.find("ES256", None)
        looker.answer = json.dumps(jwk("ES256", 1)).encode()
        await trio.sleep(3600)
        assert leaked not in looker.keys.find("ES256", None)
        assert looker.fetches == [0.0, 3600.0]
        nursery.cancel_scope.cancel()


def test_a_malformed_answer_is_an_error() -> None:
    for status, headers, body, why in (
        (404, {}, b"", "404"),
        (302, {"Location": "http://127.0.0.1:1/"}, b"", "302"),
        (200, {}, b"x" * (MAX_KEY_BYTES + 1), "262,144"),
    ):
        with provider() as it:
            it.status, it.headers, it.body = status, headers, body
            with pytest.raises((OSError, ValueError), match=why):
                published_keys.fetched(it.url)


def test_an_answer_that_goes_on_after_its_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part comes in time: its thread would read for ever."""
    monkeypatch.setattr(published_keys, "FETCH_DEADLINE", 0.0)
    with provider() as it:
        it.body = b"{}"
        with pytest.raises(TimeoutError, match="took longer"):
            published_keys.fetched(it.url)


def test_only_https_and_loopback_addresses_are_accepted() -> None:
    for good in ("https://id.example/keys", "http://127.0.0.1:9/k", "http://localhost/k", "http://[::1]:9/k"):
        assert keys_url(good) == good
    for bad in (
        "http://id.example/keys", "ftp://localhost/k", "file:///etc/passwd", "id.example", "https://", "http://[::1",
        "https://id.example:99999/keys", "https://id.example:443x/keys", "https://id example/keys",
        "https://id.example:0/keys", "https://ann@id.example/keys",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is not an https address"):
            keys_url(bad)
