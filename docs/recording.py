"""Makes docs/kill-9.svg: a room of two people whose server is killed in the middle of it, as it really went.

Owns: the story, the recording of its processes, the drawing. May not: say anything that no process has said; what is
typed stands behind a `$` or a `>`. Run it after changes to the terminal client's words:

    python docs/recording.py
"""

import os
import socket
import sys
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from subprocess import PIPE, STDOUT
from urllib.request import urlopen

import trio

OUTPUT = Path(__file__).with_name("kill-9.svg")
HOLD = 6.0  # s that the end is shown
CHARACTER, LINE, MARGIN, COLUMNS = 7.3, 18, 14, 104  # px, px, px, characters
SOON = 30.0  # s; never reached unless something is broken


@dataclass
class Pane:
    """A terminal: its lines, and when each of them came."""

    title: str
    lines: list[tuple[float, str, str]] = field(default_factory=list)  # time, class, text
    news: trio.Event = field(default_factory=trio.Event)

    def add(self, text: str, kind: str = "") -> None:
        """One more line, now."""
        self.lines.append((trio.current_time(), kind, text))
        self.news.set()
        self.news = trio.Event()

    async def until(self, words: str, times: int = 1) -> None:
        """Wait until so many lines have these words."""
        with trio.fail_after(SOON):
            while sum(words in text for _, _, text in self.lines) < times:
                await self.news.wait()

    async def listen(self, process: trio.Process) -> None:
        """Write down what a process says."""
        assert process.stdout is not None
        rest = b""
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.add(line.decode())


async def launch(nursery: trio.Nursery, pane: Pane, folder: str, *command: str) -> trio.Process:
    """Run the program in a pane, in a home of its own."""
    start = partial(
        trio.run_process, stdin=PIPE, stdout=PIPE, stderr=STDOUT, check=False, cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": f"{folder}/{pane.title}"},
    )  # fmt: skip
    process: trio.Process = await nursery.start(start, [sys.executable, "-m", "chatserver", *command])
    nursery.start_soon(pane.listen, process)
    return process


async def say(pane: Pane, process: trio.Process, text: str) -> None:
    """Type a line into a client."""
    assert process.stdin is not None
    pane.add(f"> {text}", "typed")
    await process.stdin.send_all(f"{text}\n".encode())


async def play(folder: str) -> list[Pane]:
    """The story."""
    shell, ann, bob = Pane("server"), Pane("Ann, over a WebSocket"), Pane("Bob, over server-sent events")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    serve = ("serve", "--port", port, "--quiet")
    chat = ("chat", url, "--room", "lobby", "--plain", "--name")
    async with trio.open_nursery() as nursery:
        shell.add(f"$ chatserver {' '.join(serve)}", "typed")
        server = await launch(nursery, shell, folder, *serve)
        await shell.until("listening on")
        a = await launch(nursery, ann, folder, *chat, "Ann")
        b = await launch(nursery, bob, folder, *chat, "Bob", "--transport", "sse")
        for pane in (ann, bob):
            await pane.until("in lobby")
        await trio.sleep(1)
        await say(ann, a, "what if somebody kills the server?")
        await bob.until("Ann: what if")
        await trio.sleep(1.5)
        await say(bob, b, "try it")
        await ann.until("Bob: try it")
        await trio.sleep(1.5)
        shell.add(f"$ kill -9 {server.pid}", "typed")
        server.kill()
        await server.wait()
        shell.add("Killed")
        await trio.sleep(1)
        await say(ann, a, "said while it was dead")
        await trio.sleep(0.7)
        await say(bob, b, "so was this")
        await trio.sleep(1.3)
        shell.add(f"$ chatserver {' '.join(serve)}", "typed")
        await launch(nursery, shell, folder, *serve)
        for pane in (ann, bob):
            await pane.until("Z Ann: said while")
            await pane.until("Z Bob: so was")
        await trio.sleep(1.5)
        shell.add(f"$ curl {url}/rooms/lobby", "typed")
        answer = await trio.to_thread.run_sync(lambda: urlopen(f"{url}/rooms/lobby").read())  # noqa: S310  it is ours
        shell.add(answer.decode().strip())
        nursery.cancel_scope.cancel()
    return [shell, ann, bob]


STYLE = """
svg { --back: #fff; --pane: #f6f7f9; --edge: #d0d4da; --text: #1d2127; --dim: #5d6670; --typed: #0a58b8 }
svg { --bad: #b3261e }
@media (prefers-color-scheme: dark) {
  svg { --back: #101316; --pane: #191d22; --edge: #333a42; --text: #e4e7ea; --dim: #9aa4ae; --typed: #7fb4ff }
  svg { --bad: #ff8d85 }
}
.back { fill: var(--back) } .pane { fill: var(--pane); stroke: var(--edge) }
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--text); white-space: pre }
.title { fill: var(--dim); font-weight: 600 }
.typed { fill: var(--typed) } .said { fill: var(--dim) } .bad { fill: var(--bad) }
"""


def look_of(text: str) -> str:
    """The class of a line that a program has written."""
    if text == "Killed" or "lost;" in text or "hung up;" in text:
        return "bad"
    return "said" if text.startswith("chatserver:") else ""


def draw(panes: list[Pane]) -> str:
    """All panes, each line from its time on; without motion all of them at once."""
    began = min(time for pane in panes for time, _, _ in pane.lines) - 0.5
    length = max(time for pane in panes for time, _, _ in pane.lines) - began + HOLD
    width = int(COLUMNS * CHARACTER + 4 * MARGIN)
    frames, shapes, top, number = [], [], MARGIN, 0
    for pane in panes:
        height = (len(pane.lines) + 1) * LINE + MARGIN
        shapes.append(
            f'<rect class="pane" x="{MARGIN}" y="{top}" width="{width - 2 * MARGIN}" height="{height}" rx="6"/>'
            f'<text class="title" x="{2 * MARGIN}" y="{top + LINE}">{escape(pane.title)}</text>'
        )
        for row, (time, kind, text) in enumerate(pane.lines, start=2):
            number += 1
            at = (time - began) / length * 100
            frames.append(
                f"@keyframes k{number} {{ 0%, {at:.2f}% {{ opacity: 0 }} {at + 0.01:.2f}%, 100% {{ opacity: 1 }} }}"
            )
            look = kind or look_of(text)
            shown = text if len(text) <= COLUMNS else text[: COLUMNS - 1] + "…"
            shapes.append(
                f'<text class="{look}" x="{2 * MARGIN}" y="{top + row * LINE}" '
                f'style="animation: k{number} {length:.1f}s infinite">{escape(shown)}</text>'
            )
        top += height + MARGIN
    said = "A room of two people; the server is killed with kill -9 and started again; each message is there once."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" role="img" aria-label="{said}">\n'
        f"<style>{STYLE}@media (prefers-reduced-motion: no-preference) {{\n{chr(10).join(frames)}\n}}</style>\n"
        f'<rect class="back" width="{width}" height="{top}"/>\n{chr(10).join(shapes)}\n</svg>\n'
    )


if __name__ == "__main__":
    ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        OUTPUT.write_text(draw(trio.run(play, folder)), encoding="utf-8")
    sys.stdout.write(f"{OUTPUT.name}: {OUTPUT.stat().st_size:,} B\n")
