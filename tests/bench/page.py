"""The time from opening the page to the first message on screen, in a real browser.

How: a room with 60 messages. Each first visit is a new browser context, without cache and cookies; a reload is the same
page once more. The page's own clock counts, from the start of the navigation until a frame with a message was drawn.
What would fool it: a busy machine, since browser, server and this process share it; a message that the page shows
before the server has sent it, so only messages with an offset count.
"""

from collections.abc import Iterator

from playwright.sync_api import Browser, Page

from tests.bench.figures import Result, Scale, at_most
from tests.bench.processes import chatserver
from tests.e2e.browser import find_chromium, running_chromium

FIRST = at_most("page: first message on screen, first visit", " ms", bound=300, aim=200)
AGAIN = at_most("page: first message on screen, reload", " ms", bound=300, aim=150)
MESSAGES = 60
#: Waits for the frame in which a message is drawn; returns the time in ms, and the requests and bytes so far.
SHOWN = """() => new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
        const time = performance.now(), entries = performance.getEntries().filter((each) => 'transferSize' in each);
        resolve([time, entries.length, entries.reduce((sum, each) => sum + each.transferSize, 0)]);
    };
    const look = () => {
        if (document.querySelector('#messages .message[data-offset]')) port2.postMessage('after this frame');
        else requestAnimationFrame(look);
    };
    look();
})"""


def run(scale: Scale) -> Iterator[Result]:
    """First visits and reloads, in turns."""
    if find_chromium() is None:
        raise SystemExit("page needs Chromium, such as Debian's package chromium-headless-shell")
    with chatserver() as server, running_chromium() as browser:
        url = f"http://127.0.0.1:{server.address[1]}"
        _fill(browser, url)
        first, again = list[tuple[float, int, int]](), list[tuple[float, int, int]]()
        for _ in range(scale.of(20, 1)):
            context = browser.new_context(viewport={"width": 1100, "height": 700})
            page = context.new_page()
            page.goto(f"{url}/#page", wait_until="commit")
            first.append(_shown(page))
            page.reload(wait_until="commit")
            again.append(_shown(page))
            context.close()
    for figure, visits in ((FIRST, first), (AGAIN, again)):
        _, requests, size = visits[-1]
        details = f"{len(visits)} visits; {requests} requests, {size:,} bytes"
        yield Result(figure=figure, samples=[visit[0] for visit in visits], details=details)


def _fill(browser: Browser, url: str) -> None:
    context = browser.new_context()
    for number in range(MESSAGES):
        context.request.post(f"{url}/rooms/page/messages", data={"text": f"message {number} with some more words"})
    context.close()


def _shown(page: Page) -> tuple[float, int, int]:
    shown: tuple[float, int, int] = page.evaluate(SHOWN)
    return shown
