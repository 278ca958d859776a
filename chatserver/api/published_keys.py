"""The keys that a provider publishes at an address (`--token-jwks`).

Owns: when they are fetched, in a thread of its own, and how long and how much that may be. May not: verify.

At the start, at a SIGHUP, and when a token names a key that is not here, at most once a minute. What was fetched stays
in use until the next answer that can be read.
"""

import time
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import structlog
import trio

from chatserver.api.keys import MAX_KEY_BYTES, KeyRing, keys_of_set

#: Seconds between two fetches that tokens ask for; and until the next one when none has succeeded yet.
FETCH_EVERY = 60.0
#: Seconds for one fetch, and for each step of it.
FETCH_DEADLINE, STEP_DEADLINE = 10.0, 5.0

_log = structlog.get_logger("chatserver.keys")


class _NoRedirect(HTTPRedirectHandler):
    """Keys come from where the operator said, and nowhere else."""

    def redirect_request(self, *_: object) -> None:
        """None: a redirect is an error."""


class PublishedKeys:
    """See the module; `run` fetches until it is cancelled."""

    def __init__(self, url: str, keys: KeyRing) -> None:
        self._url = url
        self._keys = keys
        self._wanted = trio.Event()
        self._fetching = False
        self._fetched = False  # at least once
        self._began = 0.0

    def unknown(self) -> bool:
        """A token names a key that is not here. True: it may be soon."""
        if self._fetching:
            return True
        if trio.current_time() < self._began + FETCH_EVERY:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Fetch them now."""
        self._wanted.set()

    async def run(self) -> None:
        """Fetch, and wait until it is wanted again."""
        while True:
            self._wanted = trio.Event()
            self._began = trio.current_time()
            self._fetching = True
            try:
                await self._fetch()
            finally:
                self._fetching = False
            with trio.move_on_after(FETCH_EVERY if not self._fetched else float("inf")):
                await self._wanted.wait()

    async def _fetch(self) -> None:
        why = f"no answer within {FETCH_DEADLINE:g} s"
        with trio.move_on_after(FETCH_DEADLINE):
            try:
                data = await trio.to_thread.run_sync(fetched, self._url, abandon_on_cancel=True)
                keys = keys_of_set(data, secrets_too=False)
            except Exception as error:  # noqa: BLE001  what comes from outside ends no server
                why = f"{type(error).__name__}: {error}"
            else:
                self._keys.publish(keys)
                self._fetched = True
                _log.info("token_jwks_read", keys=len(keys))
                return
        _log.warning("token_jwks_not_read", url=self._url, reason=why)


def fetched(url: str) -> bytes:
    """What is at an address; it gives up by itself, since nobody can end its thread. Raises OSError or ValueError."""
    end = time.monotonic() + FETCH_DEADLINE
    request = Request(url, headers={"Accept": "application/json"})  # noqa: S310 -- settings allow https, or the loopback
    opener = build_opener(_NoRedirect)
    if request.type == "http":  # what is on the loopback is not to be had from a proxy
        opener = build_opener(_NoRedirect, ProxyHandler({}))
    with opener.open(request, timeout=STEP_DEADLINE) as answer:
        data = b""
        while part := answer.read1(MAX_KEY_BYTES):
            data += part
            if len(data) > MAX_KEY_BYTES:
                raise ValueError(f"more than {MAX_KEY_BYTES:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"took longer than {FETCH_DEADLINE:g} s")
        return data
