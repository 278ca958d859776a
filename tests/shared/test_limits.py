"""Rate limits shared by several processes: exact on the shard, with errors of at most a burst or a few seconds."""

import pytest

from chatserver.meters import TokenBucket
from chatserver.shared.limits import MAX_DEBT, Spent, spend, take
from chatserver.shared.shards import Script, SharedError
from tests.shared.keeping import Keeping, keeping
from tests.support.valkeys import Valkey, url_of

#: One token in a hundred seconds, so that none returns while a test is delayed; a burst of four.
RARE = TokenBucket(0.01, burst=4)


async def take_one(it: Keeping, key: str) -> float:
    return await take(it.shard, it.shards.key(key), RARE.interval, RARE.span)


async def test_processes_take_from_one_bucket(servers: list[Valkey]) -> None:
    url = url_of(servers[:1])
    async with keeping(url, "ours") as ann, keeping(url, "ours") as bob:
        for each in (ann, bob):
            await each.up()
        await ann.shard.call(b"DEL", ann.shards.key("a"))
        assert [await take_one(each, "a") for each in (ann, bob, ann, bob)] == [0.0] * 4
        for each in (ann, bob):
            assert 10.0 < await take_one(each, "a") <= 100.0
        assert await take_one(ann, "b") == 0.0
        left = await ann.shard.call(b"PTTL", ann.shards.key("a"))
        assert isinstance(left, int)
        assert 300_000 < left <= 400_000, "a full bucket takes no memory"


async def test_tokens_return_at_the_rate(it: Keeping) -> None:
    quick = TokenBucket(1e6, burst=1)
    for _ in range(20):
        assert await take(it.shard, it.shards.key("a"), quick.interval, quick.span) < 1e-3


async def test_any_content_of_a_bucket_refuses_for_a_short_time_only(it: Keeping) -> None:
    for stands in (b"garbage", b"9e99", b"-5", b"nan", b"99999999999999999", b""):
        await it.shard.call(b"SET", it.shards.key("a"), stands)
        assert 0.0 <= await take_one(it, "a") <= 100.0, stands
        [level] = await spend(it.shard, [Spent(it.shards.key("a"), RARE.interval, RARE.span, 1)])
        assert 0 < level <= RARE.span * MAX_DEBT + 1, stands


async def test_spending_adds_up_and_the_debt_is_bounded(it: Keeping) -> None:
    keys = [it.shards.key(key) for key in ("a", "b")]
    told = [Spent(keys[0], RARE.interval, RARE.span, 3), Spent(keys[1], RARE.interval, RARE.span, 1000)]
    first = await spend(it.shard, told)
    second = await spend(it.shard, told)
    assert [round(level / RARE.interval) for level in first] == [3, 4 * MAX_DEBT]
    assert [round(level / RARE.interval) for level in second] == [6, 4 * MAX_DEBT]


async def test_an_impossible_answer_is_ignored(it: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("'soon'", "-5", "99999999999999", "{}", "nil"):
        monkeypatch.setattr("chatserver.shared.limits._TAKE", Script(f"return {answer}"))
        with pytest.raises(SharedError):
            pytest.fail(f"{answer}: {await take_one(it, 'a')}")
        for levels in (answer, f"{{{answer}}}"):
            monkeypatch.setattr("chatserver.shared.limits._SPEND", Script(f"return {levels}"))
            with pytest.raises(SharedError):
                pytest.fail(f"{levels}: {await spend(it.shard, [Spent('a', RARE.interval, RARE.span, 1)])}")
