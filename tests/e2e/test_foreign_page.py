"""A page of another site in a real Chromium: what the browser sends, and how the server answers.

The other site is another port of the same machine: cookies ignore ports, and `Sec-Fetch-Site` is `same-site`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import OpenWindow
from tests.e2e.servers import Server, another_site, serving

pytestmark = pytest.mark.browser

#: Each returns its outcome in one word.
SCRIPT = """
async (server) => {
  const opened = (target, good, bad) => new Promise((resolve) => {
    target.addEventListener(good, () => (target.close(), resolve('open')));
    for (const each of bad) target.addEventListener(each, () => (target.close(), resolve('refused')));
  });
  const answer = (path, options) => fetch(server + path, options).then((found) => found.status || found.type, () => 'unreadable');
  const text = { method: 'POST', body: 'from a foreign page', headers: { 'Content-Type': 'text/plain' } };
  const json = { method: 'POST', body: '{"text": "from a foreign page"}', headers: { 'Content-Type': 'application/json' } };
  const sockets = server.replace('http', 'ws');
  return {
    socket: await opened(new WebSocket(sockets + '/ws'), 'open', ['error', 'close']),
    echo: await opened(new WebSocket(sockets + '/echo'), 'open', ['error', 'close']),
    events: await opened(new EventSource(server + '/rooms/lobby/events'), 'open', ['error']),
    events_as_user: await opened(
      new EventSource(server + '/rooms/lobby/events', { withCredentials: true }), 'open', ['error']),
    text: await answer('/rooms/lobby/messages', { ...text, mode: 'no-cors', credentials: 'include' }),
    text_as_nobody: await answer('/rooms/lobby/messages', { ...text, mode: 'no-cors', credentials: 'omit' }),
    text_to_read: await answer('/rooms/lobby/messages', text),
    json: await answer('/rooms/lobby/messages', { ...json, credentials: 'include' }),
    delete: await answer('/rooms/lobby/messages/1', { method: 'DELETE' }),
    history: await answer('/rooms/lobby/messages', { credentials: 'include' }),
    poll: await answer('/rooms/lobby/messages?wait=1', {}),
  };
}
"""  # noqa: E501  (a line of JavaScript is a line)


@pytest.fixture(scope="module", name="another_site")
def _another_site() -> Iterator[str]:
    with another_site() as origin:
        yield origin


@pytest.mark.parametrize("allowed", [False, True])
def test_a_foreign_page_does_nothing_here_unless_its_origin_is_allowed(
    tmp_path: Path, window: OpenWindow, another_site: str, allowed: bool
) -> None:
    visitor = window()
    with serving(tmp_path, flags=["--echo", *(["--allow-origin", another_site] if allowed else [])]) as server:
        visitor.open(server)  # sets a cookie
        visitor.page.goto(another_site)
        streams = dict.fromkeys(("socket", "echo", "events", "events_as_user"), "open" if allowed else "refused")
        posts = dict.fromkeys(("text_to_read", "json"), 201 if allowed else "unreadable")
        reads = dict.fromkeys(("history", "poll"), 200 if allowed else "unreadable")
        assert visitor.page.evaluate(SCRIPT, server.url) == {
            **streams, **posts, **reads,
            "text": "opaque", "text_as_nobody": "opaque",  # the outcome is checked in the log below
            "delete": 403 if allowed else "unreadable",  # the answer is readable: the message is another user's
        }  # fmt: skip
        said = [message["text"] for message in server.messages("lobby")]
        assert said == ["from a foreign page"] * (4 if allowed else 0)
    visitor.complaints.clear()  # Chromium reports what was refused


def test_a_link_on_another_site_opens_our_page_as_the_same_user(
    shared_server: Server, window: OpenWindow, another_site: str
) -> None:
    visitor = window(room="links")
    name = visitor.name
    visitor.page.goto(another_site)
    visitor.page.evaluate("(url) => document.body.append(Object.assign(document.createElement('a'), "
                          "{ href: url, textContent: 'chat' }))", f"{shared_server.url}/#links")  # fmt: skip
    visitor.page.click("a")
    visitor.expect_live()
    assert visitor.name == name
    visitor.say("I came by a link")
    visitor.expect_texts(["I came by a link"])
    assert [message["text"] for message in shared_server.messages("links")] == ["I came by a link"]
