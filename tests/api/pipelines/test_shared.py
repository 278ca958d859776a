"""The steps of a search that ask a shard: what one decides without it, or with an answer that it cannot use."""

from typing import Any, cast

import pytest
import trio.testing

from chatserver.api.pipelines.limiters import OverLimitError, SearchLimits
from chatserver.api.pipelines.results import Lookup
from chatserver.api.pipelines.shared import SharedLimits, SharedResults
from chatserver.log.index import Found, Question
from chatserver.shared.shards import Shards
from chatserver.shared.valkey import ValkeyShard

QUESTION = Question(("word",))


class Answering:
    """A shard with one answer for all calls, which it records."""

    connections = 0

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.calls: list[tuple[object, ...]] = []

    async def call(self, *call: object) -> object:
        self.calls.append(call)
        return self.answer

    run_script = call


def results_on(shard: Answering) -> SharedResults:
    return SharedResults(Shards(cast(Any, [shard]), "chat"))


async def test_while_its_server_is_away_a_process_keeps_the_limit_alone(autojump_clock: trio.testing.MockClock) -> None:
    shared = SharedLimits(Shards([ValkeyShard("127.0.0.1", 1)], "chat"))
    limits = SearchLimits(2.0, shared.take)
    for _ in range(4):
        await limits.take(limits.user, 7)
    with pytest.raises(OverLimitError):
        await limits.take(limits.user, 7)
    assert shared.alone == {"127.0.0.1:1": 4}


async def test_what_is_no_result_of_ours_is_none() -> None:
    none = Lookup(None, b"1")
    for answer, lookup in (([b"1", b"\xc1"], none), ([b"1", None], none), ([1, 2], None), (b"garbage", None)):
        assert await results_on(Answering(answer)).get(QUESTION) == lookup, answer


async def test_a_long_result_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = Answering()
    await results_on(shard).put(QUESTION, Found([], None), b"1")
    [(command, _, entry, *_)] = shard.calls
    assert command == b"SET"
    monkeypatch.setattr("chatserver.api.pipelines.shared.MAX_RESULT_BYTES", len(cast(bytes, entry)) - 1)
    await results_on(shard).put(QUESTION, Found([], None), b"1")
    assert len(shard.calls) == 1
