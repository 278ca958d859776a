"""The bound on cached results."""

from chatserver.api.pipelines.results import MAX_RESULTS, ResultCache
from chatserver.log.index import Found, Question


async def test_the_oldest_result_is_dropped_over_the_limit() -> None:
    results, found = ResultCache(), Found([], None)
    parts = [(Question((str(number),)), None) for number in range(MAX_RESULTS + 1)]
    for part in parts[:-1]:
        results.put(part, found, 0)
    assert results.get(parts[0]) is found
    results.put(parts[0], found, 0)  # put again, so it is the newest
    results.put(parts[-1], found, 0)
    assert [part for part in parts if results.get(part) is None] == [parts[1]]
