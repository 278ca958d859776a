"""The keys that a provider publishes at an address (`--token-jwks`).

Owns: when they are fetched, in a thread, and the limits on time and size. May not: verify.

They are fetched at the start, at SIGHUP, and when a token names an unknown key, then at most once a minute. Fetched
keys stay in use until the next readable answer.
"""

import time
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import structlog
import trio

from chatserver.api.keys import MAX_KEY_BYTES, Key, keys_of_set

#: Seconds between two fetches for unknown keys, and between attempts while none has succeeded yet.
FETCH_EVERY = 60.0
#: Seconds for one fetch, and for each step of it.
FETCH_DEADLINE, STEP_DEADLINE = 10.0, 5.0

_log = structlog.get_logger("chatserver.keys")


class _NoRedirect(HTTPRedirectHandler):
    """Refuses redirects: keys come only from the address that the operator configured."""

    def redirect_request(self, *_: object) -> None:
        """Return None, which makes a redirect an error."""


class PublishedKeys:
    """See the module; `run` fetches until it is cancelled."""

    def __init__(self, url: str) -> None:
        self.keys: list[Key] = []
        self.fetches = 0  # that have succeeded; each replaces `keys`
        self._url = url
        self._wanted = trio.Event()
        self._fetching = False
        self._began = 0.0

    def fetch_unknown(self) -> bool:
        """Fetch again, since a key is not here, unless that was done a moment ago. True: it may come soon."""
        if self._fetching or not self.fetches:
            return True
        if trio.current_time() < self._began + FETCH_EVERY:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        while True:
            self._wanted = trio.Event()
            self._began = trio.current_time()
            self._fetching = True
            await self._fetch()
            self._fetching = False
            with trio.move_on_after(FETCH_EVERY if not self.fetches else float("inf")):
                await self._wanted.wait()

    async def _fetch(self) -> None:
        why = f"no answer within {FETCH_DEADLINE:g} s"
        with trio.move_on_after(FETCH_DEADLINE):
            try:
                data = await trio.to_thread.run_sync(fetched, self._url, abandon_on_cancel=True)
                keys = keys_of_set(data, secrets_too=False)
            except Exception as error:  # noqa: BLE001  no answer from outside may end the server
                why = f"{type(error).__name__}: {error}"
            else:
                self.keys = keys
                self.fetches += 1
                _log.info("token_jwks_read", keys=len(keys))
                return
        _log.warning("token_jwks_not_read", url=self._url, reason=why)


def fetched(url: str) -> bytes:
    """Fetch from an address, with a deadline, since a thread cannot be cancelled. Raises OSError or ValueError."""
    end = time.monotonic() + FETCH_DEADLINE
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 -- settings allow https, or the loopback
    opener = build_opener(_NoRedirect)
    if request.type == "http":  # plain http is for the loopback only, which a proxy cannot reach
        opener = build_opener(_NoRedirect, ProxyHandler({}))
    try:
        answer = opener.open(request, timeout=STEP_DEADLINE)
    except HTTPError as error:
        error.close()  # it is the answer as well
        raise
    with answer:
        data = b""
        while part := answer.read1(MAX_KEY_BYTES):
            data += part
            if len(data) > MAX_KEY_BYTES:
                raise ValueError(f"more than {MAX_KEY_BYTES:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"took longer than {FETCH_DEADLINE:g} s")
        return data
