"""The README's pictures, taken from the real server: `python -m tests.e2e.screenshots docs`.

Owns: a small cast and what it says. May not: show anything that the page does not do by itself.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.browser import CHROMIUM_FLAGS, Server, Window, find_chromium, serving

TALK = (
    (0, "Good morning! Is everything still here?"),
    (1, "It is. I killed the server in the middle of a sentence and started it again."),
    (1, "The other half of the sentence came in by itself."),
    (2, "Lovely. And nothing twice?"),
    (3, "Nothing twice. I wrote three lines while it was away; they went out when it was back, once each."),
    (0, "I was on a train for most of it, with hardly any network. I just kept reading."),
    (2, "The plan for today is in https://example.org/plans/loris_(friday).html, please add to it"),
    (3, "Will do.\nBack after tea."),
)
ELSEWHERE = (
    ("garden", "The tomatoes are in."),
    ("ops", "Restart at noon."),
    ("ops", "Done, nobody noticed."),
    ("night-shift", "All quiet."),
)


def take(browser: Browser, server: Server, folder: Path) -> None:
    sizes = [{"width": 1200, "height": 760}, {"width": 375, "height": 720}, {}, {}]
    cast = [Window(browser, **size, color_scheme="dark" if at == 1 else "light") for at, size in enumerate(sizes)]
    for room, text in ELSEWHERE[:2]:
        server.publish(room, text)
    for person in cast:
        person.open(server)
    expect(cast[0].page.locator("#rooms li")).to_have_count(3)
    for count, (who, text) in enumerate(TALK, start=1):
        cast[who].say(text)
        for person in cast:
            expect(person.texts).to_have_count(count)
    for room, text in ELSEWHERE[2:]:
        server.publish(room, text)
    for person in cast:
        expect(person.page.locator("#people li")).to_have_count(len(cast))
        expect(person.page.locator("#rooms .badge")).to_have_count(1)  # asked for every 15 s
    cast[0].page.fill("#text", "Then it is settled: tea first")
    cast[0].page.wait_for_timeout(500)  # the button fades in
    cast[0].page.screenshot(path=folder / "screenshot-desktop.png")
    cast[1].page.screenshot(path=folder / "screenshot-phone.png")
    for person in cast:
        person.close()
        assert not person.complaints, person.complaints


def main() -> None:
    path = find_chromium()
    assert path is not None, "no Chromium here"
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        with serving(Path(directory)) as server:
            take(browser, server, Path(sys.argv[1]))
        browser.close()


if __name__ == "__main__":
    main()
