"""Third-party clients, unchanged: `websockets`, node's `ws` and `eventsource` join, publish and resume.

And `chat.js` outside of a browser.
"""

import json
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from websockets.trio.client import connect

import chatserver
from chatserver.reasons import Reason
from tests.support.node import installed
from tests.support.peers import publish
from tests.support.serving import serving

WEB = Path(chatserver.__file__).parent / "web"
SOON = 60.0  # s; never reached unless something is broken
PACKAGES = ("ws@8", "eventsource@3")

WS = """
import WebSocket from 'ws';

const [, , origin] = process.argv;

function talk(requests, enough) {
  const socket = new WebSocket(`${origin.replace('http', 'ws')}/ws`, 'chat.v1');
  const seen = [];
  return new Promise((resolve, reject) => {
    socket.on('error', reject);
    socket.on('open', () => requests.forEach((request) => socket.send(JSON.stringify(request))));
    socket.on('message', (data) => {
      seen.push(JSON.parse(data));
      if (!enough(seen.at(-1))) return;
      socket.terminate();
      resolve(seen);
    });
  });
}

const said = { type: 'publish', id: 'two', room: 'lobby', text: 'from ws', key: 'k1' };
const first = await talk([{ type: 'join', id: 1, room: 'lobby' }, said], ({ type }) => type === 'message');
await fetch(`${origin}/rooms/lobby/messages`, { method: 'POST', body: 'while away' });
const after = first.at(-1).cursor;
const again = await talk([{ type: 'join', id: 3, room: 'lobby', after }], ({ type }) => type === 'joined');
console.log(JSON.stringify({ first, again }));
"""

EVENTSOURCE = """
import { EventSource } from 'eventsource';

const source = new EventSource(`${process.argv[2]}/rooms/lobby/events`);
source.addEventListener('message', ({ data, lastEventId }) => {
  const { text } = JSON.parse(data);
  console.log(JSON.stringify({ text, lastEventId }));
  if (text === 'the end') source.close();
});
"""

CHAT = """
import WebSocket from 'ws';

globalThis.WebSocket ??= WebSocket; // these three: node 22 has them
globalThis.navigator ??= {};
Map.groupBy ??= (items, name) => new Map(items.map((item) => [name(item), items])); // all are of one room
const { connect } = await import('./web/chat.js');
for (const transport of ['ws', 'sse', 'poll']) {
  const chat = connect(process.argv[2], { transport });
  const room = chat.join(transport);
  const heard = new Promise((resolve) => room.addEventListener('message', resolve, { once: true }));
  const { offset } = await room.publish('from node');
  const { detail } = await heard;
  const { kind } = chat.state;
  room.pushed({ type: 'error', code: 'forbidden', message: 'banned', retry_after: 3600 });
  chat.close();
  while (process.getActiveResourcesInfo().includes('TCPSocketWrap')) await new Promise(setImmediate);
  const isOver = !process.getActiveResourcesInfo().includes('Timeout');
  console.log(JSON.stringify({ text: detail.text, stored: offset === detail.offset, kind, isOver }));
}
process.exit(); // a timer would keep it for a day
"""


async def test_websockets_can_join_publish_and_resume() -> None:
    async with serving() as server:
        address = server.address
        url = f"ws://{address.host}:{address.port}/ws"
        with trio.fail_after(SOON):
            async with connect(url, subprotocols=["chat.v1"]) as socket:  # type: ignore[list-item]
                assert socket.subprotocol == "chat.v1"
                await socket.send(json.dumps({"type": "join", "id": 1, "room": "lobby"}))
                await socket.send(json.dumps({"type": "publish", "id": 2, "room": "lobby", "text": "hi"}))
                message = await heard(socket, "message")
                assert message["text"] == "hi"
            await publish(address, "lobby", "while away")
            async with connect(url) as socket:
                await socket.send(json.dumps({"type": "join", "id": 1, "room": "lobby", "after": message["cursor"]}))
                joined = await heard(socket, "joined")
    assert joined["recovered"]
    assert [missed["text"] for missed in joined["messages"]] == ["while away"]


async def heard(socket: Any, kind: str) -> dict[str, Any]:
    while True:
        frame: dict[str, Any] = json.loads(await socket.recv())
        if frame["type"] == kind:
            return frame


@pytest.fixture(scope="module")
def node_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which scripts of node find the packages."""
    home = tmp_path_factory.mktemp("node")
    installed(home, *PACKAGES)
    (home / "ws.mjs").write_text(WS)
    (home / "eventsource.mjs").write_text(EVENTSOURCE)
    (home / "chat.mjs").write_text(CHAT)
    shutil.copytree(WEB, home / "web")
    (home / "web" / "package.json").write_text('{"type": "module"}')
    return home


async def test_ws_on_node_can_join_publish_and_resume(node_home: Path) -> None:
    async with serving() as server:
        origin = f"http://{server.address.host}:{server.address.port}"
        with trio.fail_after(SOON):
            done = await trio.run_process(["node", str(node_home / "ws.mjs"), origin], capture_stdout=True)
    seen = json.loads(done.stdout)
    assert {frame["type"] for frame in seen["first"]} >= {"hello", "joined", "message"}
    joined = seen["again"][-1]
    assert joined["recovered"]
    assert [missed["text"] for missed in joined["messages"]] == ["while away"]


async def test_node_eventsource_resumes_after_a_cut_connection(node_home: Path) -> None:
    async with serving() as server, trio.open_nursery() as nursery:
        origin = f"http://{server.address.host}:{server.address.port}"
        node = ["node", str(node_home / "eventsource.mjs"), origin]
        with trio.fail_after(SOON):
            process: trio.Process = await nursery.start(partial(trio.run_process, node, stdout=subprocess.PIPE))
            assert process.stdout is not None
            await server.in_phase("stream")
            await publish(server.address, "lobby", "first")
            told = b""
            while b"\n" not in told:
                told += await process.stdout.receive_some()
            server.server.parts.connections.close_all(Reason.EVICTED)
            await publish(server.address, "lobby", "while away")
            await publish(server.address, "lobby", "the end")
            while more := await process.stdout.receive_some():
                told += more
        nursery.cancel_scope.cancel()
    messages = [json.loads(text) for text in told.splitlines()]
    assert [message["text"] for message in messages] == ["first", "while away", "the end"]
    assert all(message["lastEventId"] for message in messages)


async def test_chat_js_needs_no_page(node_home: Path) -> None:
    """It read `location`, which only browsers have, and ran on after `close()`, with a ban for up to a day."""
    async with serving() as server:
        origin = f"http://{server.address.host}:{server.address.port}"
        with trio.fail_after(SOON):
            done = await trio.run_process(["node", str(node_home / "chat.mjs"), origin], capture_stdout=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"text": "from node", "stored": True, "kind": transport, "isOver": True} for transport in ("ws", "sse", "poll")
    ]
