"""`chat.d.ts` says what `chat.js` has and what docs/embed.md says: exports, members, events, fields."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

import chatserver
from tests.support.node import installed
from tests.support.peers import ask, publish
from tests.support.serving import serving

WEB = Path(chatserver.__file__).parent / "web"
DOCS = (Path(__file__).parent.parent.parent / "docs" / "embed.md").read_text(encoding="utf-8")
#: Events for the page only.
INTERNAL = {"outbox", "room", "left", "caughtup", "rights"}
CONFIG = {
    "strict": True, "noEmit": True, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
    "lib": ["esnext", "dom", "dom.iterable"], "types": [], "allowJs": True,
    "skipDefaultLibCheck": True,  # TypeScript's own declarations: half of the time
    "paths": {"https://chat.example/chat.js": ["./web/chat.d.ts"]},
}  # fmt: skip
#: What each module defines has the declared members, of these types.
SAME = """
import type * as declared from './web/chat.js'; // TypeScript takes chat.d.ts
import type { ChatClient } from './web/client.js';
import type { Room } from './web/room.js';
import type { Ack, ChatError, Message, User } from './web/wire.js';

type Own<T> = Omit<T, keyof EventTarget>;
declare const code: { client: ChatClient; room: Room; error: ChatError; message: Message; user: User; ack: Ack };
export const types: {
  client: Omit<Own<declared.ChatClient>, 'join'> & { join(name: string): Room };
  room: Own<declared.Room>; error: declared.ChatError;
  message: declared.Message; user: declared.User; ack: declared.Ack;
} = code;
declare const said: declared.Message;
export const message: Message = said;
"""
#: What a browser makes of the ids in the example.
IDS = """
declare const talk: HTMLElement;
declare const state: HTMLElement;
declare const say: { elements: { text: HTMLInputElement }; onsubmit: () => void };
"""
USE = """
import { connect, ChatError, type Message, type Room } from 'https://chat.example/chat.js';
const texts: string[] = [];
const show = ({ user, text, reactions = {} }: Message) => texts.push(user.name, text, ...Object.keys(reactions));
const room: Room = connect('https://chat.example', { token: 'a', transport: 'ws' }).join('lobby');
room.addEventListener('messages', ({ detail: { added } }) => added.forEach(show), { once: true });
room.publish('hello', { replyTo: 1, mentions: ['u_ann'] }).catch((error: unknown) => {
  if (error instanceof ChatError && error.retryAfter !== null) setTimeout(() => room.comeBack(), error.retryAfter);
});
// @ts-expect-error an event that does not exist
room.addEventListener('mesage', () => {});
// @ts-expect-error a transport that does not exist
connect('https://chat.example', { transport: 'websocket' });
// @ts-expect-error rooms come from `join`
new room.constructor.Room();
"""
NAMES = """
import ts from 'typescript';
import { readFileSync } from 'node:fs';
const source = ts.createSourceFile('chat.d.ts', readFileSync('web/chat.d.ts', 'utf8'), ts.ScriptTarget.Latest);
const members = ({ members = [] }) => members.flatMap(({ name }) => name?.text ?? []);
const named = source.statements.filter(({ name }) => name);
const exported = named.filter(({ kind, modifiers = [] }) =>
  [ts.SyntaxKind.ClassDeclaration, ts.SyntaxKind.FunctionDeclaration].includes(kind) &&
  modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword));
console.log(JSON.stringify({
  declared: exported.map(({ name }) => name.text).sort(),
  exported: Object.keys(await import('./web/chat.js')).sort(),
  members: Object.fromEntries(named.map((each) => [each.name.text, members(each)])),
}));
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the compiler, the page's modules and programs that use them."""
    folder = tmp_path_factory.mktemp("types")
    installed(folder, "typescript@5")
    shutil.copytree(WEB, folder / "web")
    (folder / "web" / "package.json").write_text('{"type": "module"}')
    found = re.search(r'<script type="module">\n(.*?)</script>', DOCS, re.DOTALL)
    assert found is not None
    programs = {"example": found[1] + IDS, "same": SAME, "use": USE}
    for name, program in programs.items():
        (folder / f"{name}.ts").write_text(program)
    (folder / "names.mjs").write_text(NAMES)
    config = {"compilerOptions": CONFIG, "files": ["web/chat.d.ts", *(f"{name}.ts" for name in programs)]}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def names(home: Path) -> dict[str, Any]:
    """What is exported, and the members of each declaration."""
    done = subprocess.run(["node", "names.mjs"], cwd=home, check=True, capture_output=True, timeout=240)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def compiled(home: Path) -> str:
    compiler = ["node_modules/.bin/tsc", "-p", "."]
    return subprocess.run(compiler, check=False, cwd=home, capture_output=True, text=True, timeout=240).stdout


def test_programs_and_the_code_itself_fit_the_types(home: Path) -> None:
    assert compiled(home) == ""


def test_the_same_names_are_exported_and_declared(names: dict[str, Any]) -> None:
    assert names["declared"] == names["exported"]


@pytest.mark.parametrize(("of", "events"), [("client", "ClientEvents"), ("room", "RoomEvents")])
def test_the_docs_name_what_is_declared(names: dict[str, Any], of: str, events: str) -> None:
    table = re.search(rf"^\| of a {of} \|.*?\n\n", DOCS, re.DOTALL | re.MULTILINE)
    assert table is not None
    named, dispatched = set[str](), set[str]()
    for row in table[0].strip().splitlines():
        first, second = (set(re.findall(r"`(\w+)", cell)) for cell in row.split("|")[1:3])
        if row.startswith("| event"):  # and in brackets the members that have changed
            dispatched |= first
            named |= second - {"detail"}
        else:
            named |= first
    assert named == set(names["members"]["ChatClient" if of == "client" else "Room"])
    assert dispatched == set(names["members"][events])


def test_all_events_that_the_modules_dispatch_are_declared(names: dict[str, Any]) -> None:
    modules = "".join((WEB / name).read_text(encoding="utf-8") for name in ("client.js", "room.js"))
    dispatched = set(re.findall(r"(?:tell|CustomEvent)\('(\w+)'", modules)) - INTERNAL
    declared = {name for events in ("ClientEvents", "RoomEvents") for name in names["members"][events]}
    assert dispatched | {"error"} == declared  # the server pushes that one


async def test_the_fields_of_the_servers_messages_are_declared(names: dict[str, Any]) -> None:
    async with serving() as server:
        with trio.fail_after(60):
            said = await publish(server.address, "types", "one")
            await publish(server.address, "types", "two", reply_to=1, mentions=[said["user"]["id"]])
            changes: list[tuple[str, str, bytes | dict[str, str]]] = [
                ("PATCH", "1", {"text": "one!"}),
                ("PUT", "1/reactions/%F0%9F%91%8D", b""),
                ("DELETE", "2", b""),
            ]
            for method, place, body in changes:
                assert (await ask(server.address, method, f"/rooms/types/messages/{place}", body)).status == 200
            page = await ask(server.address, "GET", "/rooms/types/messages?kinds=message")
    fields = {field for message in page.json["messages"] for field in message}
    assert fields == set(names["members"]["Message"]) - {"mentions"}  # gone with the text
    assert set(said) - {"user"} == set(names["members"]["Ack"])
