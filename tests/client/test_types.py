"""`chat.d.ts` says what `chat.js` has and what docs/embed.md says: exports, members, events, fields."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import trio

import chatserver
from tests.support.node import installed
from tests.support.peers import ask, publish
from tests.support.serving import serving

WEB = Path(chatserver.__file__).parent / "web"
DOCS = (Path(__file__).parent.parent.parent / "docs" / "embed.md").read_text(encoding="utf-8")
#: Events for the page only.
INTERNAL = {"outbox", "room", "left", "caughtup", "rights", "tokens"}
CONFIG = {
    "strict": True, "noEmit": True, "target": "es2022", "module": "esnext", "moduleResolution": "bundler",
    "lib": ["esnext", "dom", "dom.iterable"], "types": [], "allowJs": True,
    "skipDefaultLibCheck": True,  # TypeScript's own declarations: half of the time
    "checkJs": False,  # by default the syntax of the modules, which node refuses as well: a third of the rest
    "paths": {"https://chat.example/chat.js": ["./web/chat.d.ts"]},
}  # fmt: skip
#: What each module defines has the declared members, of these types.
SAME = """
import type * as declared from './web/chat.js'; // TypeScript takes chat.d.ts
import type { ChatClient } from './web/client.js';
import type { Room } from './web/room.js';
import type { ChatError } from './web/wire.js';

type Own<T> = Omit<T, keyof EventTarget>;
declare const code: { client: ChatClient; room: Room; error: ChatError };
export const types: {
  client: Omit<Own<declared.ChatClient>, 'join'> & { join(name: string): Room };
  room: Own<declared.Room>; error: declared.ChatError;
} = code;
"""
#: What a browser makes of the ids in the example.
IDS = """
declare const talk: HTMLElement;
declare const state: HTMLElement;
declare const say: { elements: { text: HTMLInputElement }; onsubmit: () => void; reset(): void };
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
#: Prints what the compiler complains of, what is exported, and the members of each declaration.
LOOK = """
import { createRequire } from 'node:module';
const ts = createRequire(import.meta.url)('typescript'); // of what `import` reads, node looks for the exports first
const { config } = ts.readConfigFile('tsconfig.json', ts.sys.readFile);
const { fileNames, options } = ts.parseJsonConfigFileContent(config, ts.sys, process.cwd());
const program = ts.createProgram(fileNames, options);
const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: process.cwd, getNewLine: () => '\\n' };
const source = program.getSourceFiles().find(({ fileName }) => fileName.endsWith('web/chat.d.ts'));
const members = ({ members = [] }) => members.flatMap(({ name }) => name?.text ?? []);
const named = source.statements.filter(({ name }) => name);
const exported = named.filter(({ kind, modifiers = [] }) =>
  [ts.SyntaxKind.ClassDeclaration, ts.SyntaxKind.FunctionDeclaration].includes(kind) &&
  modifiers.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword));
console.log(JSON.stringify({
  complaints: ts.formatDiagnostics(ts.getPreEmitDiagnostics(program), host),
  declared: exported.map(({ name }) => name.text).sort(),
  exported: Object.keys(await import('./web/chat.js')).sort(),
  members: Object.fromEntries(named.map((each) => [each.name.text, members(each)])),
}));
"""


async def test_the_types_fit_the_code_the_docs_and_the_servers_messages(tmp_path: Path) -> None:
    """All at once, since the compiler takes seconds of CPU to start, and to look at it all."""
    looked = look(tmp_path)
    assert looked["complaints"] == "", "of programs, and of the code itself"
    assert looked["declared"] == looked["exported"]
    members = looked["members"]
    for of, declared, events in (("client", "ChatClient", "ClientEvents"), ("room", "Room", "RoomEvents")):
        named, dispatched = told_of(of)
        assert named == set(members[declared]), f"docs/embed.md on a {of}"
        assert dispatched == set(members[events]), f"docs/embed.md on events of a {of}"
    modules = "".join((WEB / name).read_text(encoding="utf-8") for name in ("client.js", "room.js"))
    dispatched = set(re.findall(r"(?:tell|CustomEvent)\('(\w+)'", modules)) - INTERNAL
    assert dispatched | {"error"} == {*members["ClientEvents"], *members["RoomEvents"]}  # the server pushes that one
    said, fields = await fields_of_messages()
    assert fields == set(members["Message"]) - {"mentions"}  # gone with the text
    assert set(said) - {"user"} == set(members["Ack"])


def look(folder: Path) -> dict[str, Any]:
    """What the compiler finds in a folder with the page's modules and programs that use them."""
    installed(folder, "typescript@5")
    shutil.copytree(WEB, folder / "web")
    (folder / "web" / "package.json").write_text('{"type": "module"}')
    found = re.search(r'<script type="module">\n(.*?)</script>', DOCS, re.DOTALL)
    assert found is not None
    programs = {"example": found[1] + IDS, "same": SAME, "use": USE}
    for name, program in programs.items():
        (folder / f"{name}.ts").write_text(program)
    (folder / "look.mjs").write_text(LOOK)
    config = {"compilerOptions": CONFIG, "files": ["web/chat.d.ts", *(f"{name}.ts" for name in programs)]}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    done = subprocess.run(["node", "look.mjs"], cwd=folder, check=True, capture_output=True, timeout=240)
    looked: dict[str, Any] = json.loads(done.stdout)
    return looked


def told_of(of: str) -> tuple[set[str], set[str]]:
    """The names in the table of docs/embed.md: members, and events."""
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
    return named, dispatched


async def fields_of_messages() -> tuple[dict[str, Any], set[str]]:
    """The answer to a publish, and the fields of messages in each state."""
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
    return said, {field for message in page.json["messages"] for field in message}
