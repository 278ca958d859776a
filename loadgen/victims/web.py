"""Victims over plain HTTP: a page that is fetched, a held poll, an event stream."""

from typing import Final
from urllib.parse import quote

import msgspec
import trio

from loadgen.victims.http import HttpPeer
from loadgen.victims.victim import CONNECT_TIMEOUT_SECONDS, OperationFailedError, Victim, text_of

#: What a held poll asks for; far more than the operation of its own room lets it wait.
POLL_WAIT_SECONDS: Final = 25

_EVENT_DATA: Final = b"data:"


class _Text(msgspec.Struct):
    text: str = ""


class _Page(msgspec.Struct):
    cursor: str
    messages: list[_Text]


_page: Final = msgspec.json.Decoder(_Page)
_event: Final = msgspec.json.Decoder(_Text)


class GetVictim(Victim):
    """Fetches a path: the victim for any web server."""

    kind = "get"

    async def live(self) -> None:
        """Connect, then fetch at every operation; on a new connection if the server closes after each answer."""
        stream = await self.dial()
        with self.runner.counted(self):
            while True:
                async with stream:
                    peer = HttpPeer(stream, self.runner.target.authority)
                    while peer.is_open:
                        await self._get(peer)
                stream = await self.dial()

    async def _get(self, peer: HttpPeer) -> None:
        number = await self.next_operation()
        with trio.fail_after(self.runner.timeout_seconds):
            status, _ = await peer.request("GET", self.runner.endpoint.path)
        if 200 <= status < 400:
            self.returned(number)
        else:
            self.refused(number, f"answered {status}")


class _Poster(Victim):
    """Publishes by POST on one connection; a subclass listens on another."""

    async def live(self) -> None:
        """Connect twice; one task speaks, one listens, and neither waits for the other."""
        host = self.runner.target.authority
        async with await self.dial() as speaking, await self.dial() as listening, trio.open_nursery() as nursery:
            await nursery.start(self._listen, HttpPeer(listening, host))
            with self.runner.counted(self):
                await self._speak(HttpPeer(speaking, host))

    async def _speak(self, peer: HttpPeer) -> None:
        while True:
            number = await self.next_operation()
            with trio.fail_after(self.runner.timeout_seconds):
                status, _ = await peer.request("POST", f"/rooms/{self.room}/messages", text_of(number).encode())
            if status == 201:
                self.acknowledged.add(number)
            else:
                self.refused(number, f"answered {status}")

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        raise NotImplementedError


class PollVictim(_Poster):
    """Waits for its own messages in a held poll."""

    kind = "poll"

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        path = f"/rooms/{self.room}/messages"
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS):
            cursor = (await self._fetch(peer, f"{path}?limit=1")).cursor
        task_status.started()
        while True:
            # the operations' own time-out judges how long this may take; this one only ends a poll that was forgotten
            with trio.fail_after(POLL_WAIT_SECONDS + CONNECT_TIMEOUT_SECONDS):
                query = f"after={quote(cursor, safe='')}&wait={POLL_WAIT_SECONDS}"
                page = await self._fetch(peer, f"{path}?{query}")
            cursor = page.cursor
            for message in page.messages:
                self.heard(message.text)

    async def _fetch(self, peer: HttpPeer, path: str) -> _Page:
        status, body = await peer.request("GET", path)
        if status != 200:
            raise OperationFailedError(f"answered {status}")
        return _page.decode(body)


class StreamVictim(_Poster):
    """Waits for its own messages on an event stream."""

    kind = "sse"

    async def _listen(self, peer: HttpPeer, *, task_status: trio.TaskStatus[None]) -> None:
        rest = b""
        with trio.fail_after(CONNECT_TIMEOUT_SECONDS) as connecting:
            async for part in peer.follow(f"/rooms/{self.room}/events"):
                if connecting.deadline != float("inf"):  # servers send something at once: a comment, or `retry:`
                    connecting.deadline = float("inf")
                    task_status.started()
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if line.startswith(_EVENT_DATA):
                        self.heard(_event.decode(line[len(_EVENT_DATA) :]).text)
        raise OperationFailedError("the event stream ended")
