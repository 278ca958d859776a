"""The keys that a provider publishes at an address (`--token-jwks`).

Owns: when they are fetched, in a thread, and the limits on time and size. May not: verify.

They are fetched at the start, at SIGHUP, every hour, and when a token names an unknown key, then at most once a minute.
Fetched keys stay in use until the next readable answer, also in workers that start before it.
"""

import hashlib
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import structlog
import trio

from chatserver.api.keys import MAX_KEY_BYTES, Key, keys_of_set

#: Seconds between two fetches for unknown keys.
FETCH_EVERY = 60.0
#: Seconds after which they are fetched again, so that a key that the provider has withdrawn is given up.
REFRESH_EVERY = 3600.0
#: Seconds between the first two attempts while none has succeeded; they double, up to `FETCH_EVERY`.
FIRST_PAUSE = 1.0
#: Seconds for one fetch, and for each step of it.
FETCH_DEADLINE, STEP_DEADLINE = 10.0, 5.0

_log = structlog.get_logger("chatserver.keys")


class _NoRedirect(HTTPRedirectHandler):
    """Refuses redirects: keys come only from the address that the operator configured."""

    def redirect_request(self, *_: object) -> None:
        """Return None, which makes a redirect an error."""


class PublishedKeys:
    """See the module; `run` fetches until it is cancelled. Workers keep the latest answer in their common `folder`."""

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.keys: list[Key] = []
        self.fetches = 0  # that have succeeded; each replaces `keys`
        self._url = url
        self._file = folder and folder / f"keys-{hashlib.sha256(url.encode()).hexdigest()}"
        if self._file is not None:
            with suppress(OSError, ValueError):  # no worker has fetched any, or the disk was full
                self.keys = keys_of_set(self._file.read_bytes(), secrets_too=False)
                self.fetches = 1
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
        pause = FIRST_PAUSE
        while True:
            self._wanted = trio.Event()
            self._began = trio.current_time()
            self._fetching = True
            await self._fetch()
            self._fetching = False
            with trio.move_on_after(REFRESH_EVERY if self.fetches else pause):
                await self._wanted.wait()
            pause = min(2 * pause, FETCH_EVERY)

    async def _fetch(self) -> None:
        why = f"no answer within {FETCH_DEADLINE:g} s"
        with trio.move_on_after(FETCH_DEADLINE):
            try:
                self.keys = await trio.to_thread.run_sync(self._ask, abandon_on_cancel=True)
            except Exception as error:  # noqa: BLE001  no answer from outside may end the server
                why = f"{type(error).__name__}: {error}"
            else:
                self.fetches += 1
                _log.info("token_jwks_read", keys=len(self.keys))
                return
        _log.warning("token_jwks_not_read", url=self._url, reason=why)

    def _ask(self) -> list[Key]:
        """Fetch, in a thread, and keep a readable answer for workers that start later."""
        data = fetched(self._url)
        keys = keys_of_set(data, secrets_too=False)
        if self._file is not None:
            with suppress(OSError):  # a full disk: those workers have no keys until their first answer
                self._file.write_bytes(data)
        return keys


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
