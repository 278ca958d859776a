"""The README's pictures: `python -m tests.e2e.screenshots docs`, and for that of a report its report.html in addition.

Owns: a few people and their messages. May not: show anything that the page does not do by itself. Emoji are in colour
where the machine has a font for them (on Debian: fonts-noto-color-emoji).
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.e2e.browser import Window, running_chromium
from tests.e2e.servers import Server, serving

CAST = ("Ann Lee", "Ben Okafor", "Chiara Rossi", "Dmitri")
TALK = (
    (0, "Good morning! Is everything still here?"),
    (1, "It is. I killed the server in the **middle of a sentence** and started it again."),
    (1, "The other half of the sentence came in by itself."),
    (2, "Lovely. And nothing twice?"),
    (3, "Nothing twice. Try it:\n```\nmake run\nkill -9 $(pgrep chatserver)\n```"),
    (0, "I was on a train for most of it, with hardly any network. I just kept reading."),
    (2, "The plan for today is in https://example.org/plans/loris_(friday).html, please add to it @Ann Lee"),
)
REACTIONS = ((0, "🎉"), (1, "🎉"), (2, "👀"))


def take(browser: Browser, server: Server, folder: Path) -> None:
    cast = [Window(browser, width=1200, height=760) for _ in CAST]
    for person, name in zip(cast, CAST, strict=True):
        for room in ("ops", "garden", "lobby"):
            person.open(server, room=room)
        person.save_name(name)
        expect(person.page.locator("#me")).to_contain_text(name)
        person.expect_live()
    for count, (who, text) in enumerate(TALK, start=1):
        if "Nothing twice" in text:
            cast[who].act("And nothing twice", "Reply")
        cast[who].say(text)
        for person in cast:
            expect(person.texts).to_have_count(count)
    for who, emoji in REACTIONS:
        cast[who].act("Try it", "React")
        cast[who].page.locator(f"#quick-reactions [value='{emoji}']").click()
    server.publish("ops", "Restart at noon.")
    for person in cast:
        expect(person.page.locator(".chip")).to_have_count(2)
        expect(person.page.locator("#people li")).to_have_count(len(cast))
        expect(person.page.locator("#rooms .badge")).to_have_count(1)
    cast[3].page.click("#text")
    cast[3].page.keyboard.type("We could also")
    expect(cast[0].page.locator("#typing")).not_to_be_empty()
    page = cast[0].page
    page.mouse.move(2, 2)
    page.evaluate("actions.hidden = true")
    page.evaluate("scroller.scrollTop = scroller.scrollHeight")
    page.screenshot(path=folder / "screenshot-desktop.png")
    for person in cast:
        person.close()
        assert not person.complaints, person.complaints


def take_report(browser: Browser, report: Path, folder: Path) -> None:
    page = browser.new_page(viewport={"width": 1000, "height": 960})
    page.goto(report.resolve().as_uri())
    page.screenshot(path=folder / "screenshot-report.png")


def main() -> None:
    folder, *reports = map(Path, sys.argv[1:])
    with running_chromium() as browser, tempfile.TemporaryDirectory() as directory, serving(Path(directory)) as server:
        take(browser, server, folder)
        for report in reports:
            take_report(browser, report, folder)


if __name__ == "__main__":
    main()
