"""docs/bots.md: its bot runs unchanged, and the names on the page exist."""

import os
import pydoc
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, get_args

import trio

from chatserver import client
from chatserver.client import Message, Presence, connect
from tests.client.listener import SOON, url
from tests.support.serving import serving, until
from tests.test_docs import DOCS, fences

PAGE = DOCS / "bots.md"


async def test_the_bot_of_the_page_answers(tmp_path: Path) -> None:
    [(_, program)] = fences(PAGE, "python bot")
    assert len(program.splitlines()) <= 40
    file = tmp_path / "bot.py"
    file.write_text(program)
    async with serving() as server, connect(f"{server.address.host}:{server.address.port}") as chat:
        room = chat.join("lobby")
        events = room.events()
        await chat.connected()
        environment = {**os.environ, "CHAT_URL": f"http://{server.address.host}:{server.address.port}"}
        process = await trio.lowlevel.open_process(
            [sys.executable, str(file)], env=environment, stdin=subprocess.DEVNULL
        )
        try:
            with trio.fail_after(SOON):
                async for event in events:
                    if isinstance(event, Presence) and any(user.name == "Dice" for user in event.joined):
                        await chat.publish("lobby", "!roll 3d1")
                    if isinstance(event, Message) and event.user.name == "Dice":
                        assert event.text == "1 + 1 + 1 = 3"
                        break
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def test_the_example_of_the_package_does_not_answer_itself() -> None:
    """To one message it published 140 in four seconds."""
    example = re.search(r"( +async with connect.*?)\n\n", client.__doc__ or "", re.DOTALL)
    assert example is not None
    async with serving() as server, connect(url(server), name="Bob") as chat, trio.open_nursery() as nursery:
        room, heard = chat.join("lobby"), []
        names: dict[str, Any] = {"connect": connect}
        exec(f"async def run():\n{example[1].replace('http://127.0.0.1:8000', url(server))}", names)
        nursery.start_soon(names["run"])
        await until(partial(chat.members, "lobby"), lambda found: found.count == 2)
        await room.publish("hi")
        with trio.fail_after(SOON):
            async for message in room:
                heard.append(message.text)
                if message.text == "Bob said hi":
                    await room.publish("bye")
                if message.text == "Bob said bye":
                    break
        nursery.cancel_scope.cancel()
    assert heard == ["hi", "Bob said hi", "bye", "Bob said bye"]


def test_the_page_names_every_type_of_a_line_of_json() -> None:
    for kind in (*get_args(client.Event), client.Ack):
        assert f"`{kind.__struct_config__.tag}`" in PAGE.read_text()


def test_names_on_the_page_are_exported_and_all_others_documented() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`([A-Z][A-Za-z]+)`", text)) | set(re.findall(r"(?:chat|room)\.(\w+)[(`]", text))
    known = {*dir(client), *dir(client.Chat), *dir(client.Room), "cursor", "name", "user"}
    assert named <= known
    methods = {name for owner in (client.Chat, client.Room) for name in vars(owner) if not name.startswith("_")}
    undocumented = {name for name in methods if not re.search(rf"\b{name}\b", text)}
    assert undocumented == {"rename", "become"}


def test_help_describes_what_the_page_names() -> None:
    """Of a package without `__all__` Python's `help`, pdoc and Sphinx leave out what its modules define."""
    shown = pydoc.plain(pydoc.render_doc(client))
    assert all(f"class {name}(" in shown for name in ("Chat", "Room", "Message", "Rejected"))
    assert re.search(r"connect\(\s*url", shown)
