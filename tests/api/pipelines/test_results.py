"""The bound on cached results, and when those that processes share are invalid."""

from chatserver.api.pipelines.results import MAX_RESULTS, ResultCache
from chatserver.log.index import Found, Question
from chatserver.log.interface import TEXTS_CHANGED


async def test_the_oldest_result_is_dropped_over_the_limit() -> None:
    results, found = ResultCache(), Found([], None)
    parts = [(Question((str(number),)), None) for number in range(MAX_RESULTS + 1)]
    for part in parts[:-1]:
        results.put(part, found, 0)
    assert results.get(parts[0]) is found
    results.put(parts[0], found, 0)  # put again, so it is the newest
    results.put(parts[-1], found, 0)
    assert [part for part in parts if results.get(part) is None] == [parts[1]]


def test_who_hears_of_a_removal_invalidates_the_shared_results_too() -> None:
    """The process that removed the text may be cut off from the servers that keep them."""
    results, invalidated = ResultCache(), list[bool]()
    results.forgotten = lambda: invalidated.append(True)
    results.on_hints(["lobby"])
    assert invalidated == []
    results.on_hints([TEXTS_CHANGED])
    assert invalidated == [True]
