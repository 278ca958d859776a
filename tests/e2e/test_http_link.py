"""The link over plain HTTP against a server that the test plays, in a browser but without the page."""

import pytest

from tests.e2e.conftest import Run

pytestmark = pytest.mark.browser


def test_a_long_poll_goes_on_without_the_refused_rooms_and_pauses_after_early_answers(run: Run) -> None:
    """An error names one room, all, or none if there are too many."""
    body = """
        const { ChatError } = await import('/wire.js');
        const turn = () => new Promise((resolve) => setTimeout(resolve));
        const polled = async (rooms, answers) => {
            const [asked, refused, lost] = [[], [], []];
            const api = {
                page: async () => ({ cursor: 'e-0', recovered: true, messages: [] }),
                poll: async (places) => {
                    asked.push([...places.keys()].join());
                    const answer = answers.shift();
                    if (Array.isArray(answer)) throw new ChatError(...answer);
                    return answer ?? new Promise(() => {});
                },
            };
            const handlers = { ready() {}, page() {}, lost: () => lost.push('lost') };
            handlers.refused = (_, room) => refused.push(room);
            const link = new m.HttpLink('poll', api, handlers);
            for (const room of rooms) link.follow(room, null, true);
            await turn();
            await turn();
            link.close();
            return [asked, refused, lost];
        };
        Object.defineProperty(navigator, 'cookieEnabled', { value: false, configurable: true }); // so without locks
        const early = Array(100).fill({ rooms: {} });
        const all = await Promise.all([polled(['a'], early), ...a.map(([rooms, answer]) => polled(rooms, [answer]))]);
        delete navigator.cookieEnabled;
        return all;
    """
    cases = [
        (["a", "b"], ["forbidden", "", {"room": "a"}]),
        (["a", "b"], ["forbidden", "", {"room": "*"}]),
        (["a", "b"], ["too_many_rooms", ""]),
        (["a"], ["bad_request", ""]),
        (["a"], ["unauthenticated", ""]),
        (["a", "b"], ["unauthenticated", "", {"room": "a"}]),
        (["a"], ["unavailable", "", {"status": 503}]),
    ]
    [early, *refusals] = run("http-link.js", body, cases)
    assert len(early[0]) < 100
    assert refusals == [
        [["a,b", "b"], ["a"], []],
        [["a,b"], ["a", "b"], []],
        [["a,b", "a"], [], []],
        [["a"], ["a"], []],
        [["a"], [], ["lost"]],
        [["a,b", "b"], ["a"], []],
        [["a"], [], ["lost"]],
    ]
