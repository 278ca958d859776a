"""The bound on cached results, and when those that processes share are invalid."""

from chatserver.api.pipelines.results import MAX_RESULTS, ResultCache
from chatserver.log.index import Found, Hit, Question
from chatserver.log.interface import TEXTS_CHANGED, Kind, Record


async def test_the_oldest_result_is_dropped_over_the_limit() -> None:
    results, found = ResultCache(), Found([], None)
    questions = [Question((str(number),)) for number in range(MAX_RESULTS + 1)]
    for question in questions[:-1]:
        results.put(question, found, 0)
    assert results.get(questions[0]) is found
    results.put(questions[0], found, 0)  # put again, so it is the newest
    results.put(questions[-1], found, 0)
    assert [question for question in questions if results.get(question) is None] == [questions[1]]


def test_who_hears_of_a_removal_invalidates_the_shared_results_too() -> None:
    """The process that removed the text may be cut off from the servers that keep them."""
    invalidated = list[bool]()
    results = ResultCache(lambda: invalidated.append(True))
    results.on_hints(["lobby"])
    assert invalidated == []
    results.on_hints([TEXTS_CHANGED])
    assert invalidated == [True]


async def test_a_reaction_drops_the_results_of_its_room_but_none_of_other_processes() -> None:
    """In a busy chat there is one each second, so that what processes share was never used."""
    invalidated, question = list[bool](), Question(("hi",))
    results = ResultCache(lambda: invalidated.append(True))
    for kind, most in ((Kind.REACTION, 0), (Kind.EDIT, 1), (Kind.DELETE, 2)):
        hit = Hit(Record("lobby", 1, 0, "u_ann", "Ann", "hi"), 1.0, [])
        results.put(question, Found([hit], None), results.generation)
        results.altered([Record("lobby", 2, 0, "u_bob", "Bob", "", kind, 1)])
        assert (results.get(question), len(invalidated)) == (None, most), kind
