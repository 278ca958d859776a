"""`GET /search` (docs/protocol.md): the question and the answer in the client's form.

Owns: the limits of a question, and the JSON of results. May not: search; `pipelines/search.py` does.
"""

from contextlib import suppress
from functools import partial

import msgspec

from chatserver.api.answers import Answer, Later, Queue, Response
from chatserver.api.pages import PAGE_BYTES
from chatserver.api.pipelines.background import StartStep
from chatserver.api.pipelines.limiters import OverLimitError, SearchLimits
from chatserver.api.pipelines.search import Asked, Searched, SearchPipeline
from chatserver.api.pipelines.shared import SharedSearch
from chatserver.api.request import Request
from chatserver.api.services import SearchFailedError, Services, check_signed_in
from chatserver.chat.policy import READ
from chatserver.chat.principal import Principal
from chatserver.log.index import MAX_HITS, MAX_QUESTION, MAX_WORDS, Hit, Question
from chatserver.log.interface import LogError
from chatserver.log.sanctions import EVERYWHERE
from chatserver.log.words import words_of
from chatserver.observe.loop import Durations
from chatserver.protocol.errors import bad_field
from chatserver.protocol.validation import check_any_user_id, check_room

#: Messages in an answer that names no limit.
DEFAULT_RESULTS = 20


class SearchCounts:
    """The searches in `/metrics`."""

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(("found", "cached", "limited", "failed"), 0)
        self.took = Durations()  # of answered searches


class SearchHandlers:
    def __init__(
        self, services: Services, limits: SearchLimits, start_in_background: StartStep, shared: SharedSearch | None
    ) -> None:
        self._services = services
        self._limits = limits
        self.counts = SearchCounts()
        self._pipeline = SearchPipeline(
            index=services.log.index,
            limits=limits,
            may_read=services.may_read,
            results=services.search_results,
            shared=shared,
            recent_rooms=self._recent_rooms,
            start_in_background=start_in_background,
            altered_meanwhile=services.hub.reader.altered_meanwhile,
            after_steps=(self._write_audit, self._store_markers),
        )

    def search(self, request: Request) -> Answer:
        """`GET /search?q=&room=&user=&before=&limit=`."""
        principal = request.principal
        self._check_limits(principal)
        parameters = request.parameters("q", "room", "user", "before", "limit")
        room, user = parameters.one("room"), parameters.one("user")
        check_signed_in(principal)
        self._services.check_sanctions(principal, READ, EVERYWHERE)
        if room is not None:
            self._services.check(principal, READ, check_room(room))
        if user is not None:
            check_any_user_id(user)  # it goes into the audit trail, which moderators read on a terminal
        before = parameters.cursor("before")
        if before is not None and room is None:
            raise bad_field("before", "a cursor in one room; name it with `room`")
        if before is not None and not self._services.pages.is_ours(before):
            before = None  # a place of another epoch is no place in this log
        question = Question(_words(parameters.one("q")), room, None if before is None else before.offset, user)
        limit = parameters.limit(default=DEFAULT_RESULTS, most=MAX_HITS)
        return Later(
            self._answer(Asked(question, limit, principal)),
            partial(self._check_again, request, room or EVERYWHERE),
            Queue.SEARCH,
        )

    def _check_limits(self, principal: Principal) -> None:
        """Refuse a user or network over its limit, before a task waits for the shards. Raises OverLimitError."""
        wait = self._limits.wait(principal)
        if wait:
            self.counts.outcomes["limited"] += 1
            raise OverLimitError(wait)

    def _check_again(self, request: Request, room: str) -> None:
        request.check_again()
        self._services.check_sanctions(request.principal, READ, room)

    async def _answer(self, asked: Asked) -> Answer:
        outcomes = self.counts.outcomes
        try:
            searched = await self._pipeline.search(asked)
        except OverLimitError:
            outcomes["limited"] += 1
            raise
        except LogError as error:  # perhaps raised by a step other than the query of the index
            outcomes["failed"] += 1
            raise SearchFailedError(str(error)) from error
        outcomes["cached" if searched.cached else "found"] += 1
        self.counts.took.add(searched.seconds)
        return Response(200, self._body(searched))

    def _body(self, searched: Searched) -> list[bytes]:
        results: list[bytes] = []
        left = PAGE_BYTES
        for hit in searched.hits:
            result = self._result(hit)
            left -= len(result)
            if left < 0:
                break
            results.append(result)
        cached = "true" if searched.cached else "false"
        end = f'],"took_ms":{searched.seconds * 1000:.1f},"cached":{cached}}}\n'
        return [b'{"results":[', b",".join(results), end.encode()]

    def _result(self, hit: Hit) -> bytes:
        message = self._services.encoder.message(hit.record)
        return b'%b,"snippet":%b}' % (message[:-1], msgspec.json.encode(hit.snippet))

    async def _recent_rooms(self, limit: int) -> list[str]:
        return [summary.room for summary in await self._services.log.rooms(limit)]

    async def _write_audit(self, asked: Asked) -> None:
        """Put a search for another user's messages into the audit trail, without the searched words."""
        question, visitor = asked.question, asked.visitor
        if question.user not in (None, visitor.author.id):
            self._services.audit.note_search(visitor, question.user, question.room or EVERYWHERE)

    async def _store_markers(self, asked: Asked) -> None:
        """Store read markers: the user may continue on another server, which needs them."""
        with suppress(LogError):  # they wait for the task that stores all of them, and logs once why it cannot
            await self._services.markers.store(asked.visitor.author.id)


def _words(text: str | None) -> tuple[str, ...]:
    """The words of a question. Raises MessageError."""
    if text is None:
        raise bad_field("q", "missing; it says what to look for")
    if len(text) > MAX_QUESTION:
        raise bad_field("q", f"{len(text):,} characters, limit {MAX_QUESTION}")
    words = words_of(text)
    if not words:
        raise bad_field("q", "no word in it: no letter and no digit")
    if len(words) > MAX_WORDS:
        raise bad_field("q", f"{len(words)} words, limit {MAX_WORDS}")
    return tuple(words)
