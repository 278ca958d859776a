"""Behind nginx, Caddy and HAProxy, configured and started as docs/operations.md and nodes.md say: each transport works,
each client has its own address, and a node that is down is left out.

Only ports, paths and the proxy's own surroundings are put in.
"""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.client.listener import TRANSPORTS, listening
from tests.support.certificates import authority, certificate, trusting_any
from tests.support.peers import PATIENCE, Address, ask, connect, request
from tests.support.ports import steady_port
from tests.support.serving import server_process, until
from tests.test_docs import DOCS, fences

OPERATIONS, NODES = DOCS / "operations.md", DOCS / "nodes.md"
NAME = "chat.example.org"
_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def nginx(config: str) -> tuple[str, str]:
    """A whole configuration around the blocks of `http`, in the form of Debian's."""
    paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    return "nginx.conf", f"pid nginx.pid; events {{}} http {{ access_log off; {paths}\n{config} }}"


def nginx_stream(config: str) -> tuple[str, str]:
    return "nginx.conf", f"load_module {_STREAM_MODULE}; pid nginx.pid; events {{}}\n{config}"


def caddy(config: str) -> tuple[str, str]:
    """Its certificate would come from a public authority."""
    inside = config.replace("{\n", "{\n tls /etc/ssl/chat/fullchain.pem /etc/ssl/chat/privkey.pem\n", 1)
    return "Caddyfile", f"{{\n admin off\n auto_https disable_redirects\n skip_install_trust\n}}\n{inside}"


def haproxy(config: str) -> tuple[str, str]:
    return "haproxy.cfg", config


NGINX = ["nginx", "-e", "nginx.err", "-p", ".", "-c", "nginx.conf", "-g", "daemon off; master_process off;"]
CADDY = ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
HAPROXY = ["haproxy", "-db", "-f", "haproxy.cfg"]


def _printed(path: Path, kind: str) -> tuple[str, list[str]]:
    """A proxy's configuration, and the flags of the server's command below it."""
    page = fences(path)
    at = next(at for at, fence in enumerate(page) if fence[0] == kind)
    _, _, *flags = shlex.split(page[at + 1][1])
    return page[at][1], flags


def _store_certificate(folder: Path) -> None:
    """Under the names of the page."""
    cert, key = (Path(path).read_bytes() for path in certificate(folder, names=(NAME, "localhost")))
    for name, content in (("fullchain.pem", cert), ("privkey.pem", key), ("haproxy.pem", cert + key)):
        (folder / name).write_bytes(content)


@asynccontextmanager
async def _behind(
    folder: Path, kind: str, surround: Callable[[str], tuple[str, str]], command: list[str], page: Path = OPERATIONS
) -> AsyncIterator[Address]:
    """The address of a proxy in front of a server, until the block ends. Of several nodes only the first is up."""
    config, flags = _printed(page, kind)
    flags = ["127.0.0.1" if flag == "10.0.0.3" else flag for flag in flags]
    if "--port" in flags:
        del flags[(at := flags.index("--port")) : at + 2]
    back = steady_port()
    _store_certificate(folder)
    async with server_process(folder, *flags, "--port", str(back), "--log", "memory:", is_forked=True) as server:
        assert len(server.lines) == 1, server.errors
        async with _proxy(folder, *surround(config), command, back) as address:
            yield address


@asynccontextmanager
async def _proxy(folder: Path, name: str, config: str, command: list[str], back: int) -> AsyncIterator[Address]:
    """The address of a proxy in front of this port, until the block ends."""
    front = steady_port()
    config = re.sub(r"(127\.0\.0\.1|10\.0\.0\.1):(8000|8443)", f"127.0.0.1:{back}", config)
    config = config.replace("10.0.0.2:8000", f"127.0.0.1:{steady_port()}")
    config = config.replace("/etc/ssl/chat", str(folder))
    config = config.replace("listen 443", f"listen {front}").replace("bind :443", f"bind 127.0.0.1:{front}")
    (folder / name).write_text(config.replace(f"{NAME} {{", f"{NAME}:{front} localhost:{front} {{"))
    paths = dict.fromkeys(("XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"), str(folder))
    with (folder / "proxy.err").open("wb") as errors:
        async with trio.open_nursery() as nursery:
            environment = {**os.environ, **paths}
            run = partial(trio.run_process, stdout=errors, stderr=subprocess.STDOUT, cwd=folder, env=environment)
            proxy: trio.Process = await nursery.start(partial(run, command, check=False))
            with trio.fail_after(PATIENCE):
                while True:
                    assert proxy.poll() is None, (folder / "proxy.err").read_text()
                    try:
                        (await trio.open_tcp_stream("127.0.0.1", front)).socket.close()
                        break
                    except OSError:
                        await trio.sleep(0.05)
            yield Address("127.0.0.1", front, trusting_any())
            proxy.terminate()


def _needs(tool: str, module: Path | None = None) -> pytest.MarkDecorator:
    there = shutil.which(tool) and (module is None or module.exists())
    return pytest.mark.skipif(not there and "REQUIRE_SERVERS" not in os.environ, reason=f"no {tool} on this machine")


@pytest.mark.parametrize(
    ("kind", "surround", "command"),
    [
        pytest.param("nginx", nginx, NGINX, marks=_needs("nginx"), id="nginx"),
        pytest.param("nginx stream", nginx_stream, NGINX, marks=_needs("nginx", _STREAM_MODULE), id="nginx-stream"),
        pytest.param("caddy", caddy, CADDY, marks=_needs("caddy"), id="caddy"),
        pytest.param("haproxy", haproxy, HAPROXY, marks=_needs("haproxy"), id="haproxy"),
    ],
)
async def test_each_transport_works_behind_a_proxy_and_each_client_has_its_own_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, surround: Callable[[str], tuple[str, str]],
    command: list[str],
) -> None:  # fmt: skip
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(roots))
    async with _behind(tmp_path, kind, surround, command) as address:
        for number, transport in enumerate(TRANSPORTS):
            async with listening(f"https://localhost:{address.port}", transport=transport) as listener:
                listener.say(f"by {transport}")
                assert (await listener.texts(number + 1))[-1] == f"by {transport}"
        headers = {"Host": f"{NAME}:{address.port}"}
        async with connect(address) as held:  # a poll that waits is not ended, nor answered early
            await held.send(request("GET", "/rooms/quiet/messages?after=0&wait=20", headers=headers))
            await ask(address, "POST", "/rooms/quiet/messages", b"at last", headers=headers)
            assert b"at last" in await held.until(b"at last")
        authors = []
        for source in ("127.0.0.5", "127.0.0.6", "127.0.0.5"):
            answer = await ask(
                address, "POST", "/rooms/lobby/messages", b"from a shell", headers=headers, source=source
            )
            authors.append(answer.json["user"]["id"])
        assert authors[0] == authors[2] != authors[1]
        async with connect(address) as visitor:
            await visitor.send(request("GET", "/", headers=headers))
            head = await visitor.head()  # Caddy sends the page in chunks
            assert (head.status, head.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for origin, status in (("https://evil.example", 403), (f"https://{NAME}:{address.port}", 201)):
            fields = {**headers, "Origin": origin}
            answer = await ask(address, "POST", "/rooms/lobby/messages", b"from a page", headers=fields)
            assert answer.status == status, answer
        async with connect(address) as leaving:
            await leaving.send(request("GET", "/rooms/left/messages?wait=60&after=0", headers=headers))
            await until(lambda: _held_polls(address, headers), lambda held: held == "1.0")
        await until(lambda: _held_polls(address, headers), lambda held: held == "0.0")


async def _held_polls(address: Address, headers: dict[str, str]) -> str:
    metrics = (await ask(address, "GET", "/metrics", headers=headers)).body.decode()
    [held] = [line for line in metrics.splitlines() if line.startswith("chatserver_held_polls ")]
    return held.split()[1]


@pytest.mark.parametrize(
    ("kind", "surround", "command"),
    [
        pytest.param("nginx", nginx, NGINX, marks=_needs("nginx"), id="nginx"),
        pytest.param("caddy", caddy, CADDY, marks=_needs("caddy"), id="caddy"),
        pytest.param("haproxy", haproxy, HAPROXY, marks=_needs("haproxy"), id="haproxy"),
    ],
)
async def test_a_proxy_does_not_pass_on_which_fields_the_client_wants_removed(
    tmp_path: Path, nursery: trio.Nursery, kind: str, surround: Callable[[str], tuple[str, str]], command: list[str]
) -> None:
    """A proxy behind HAProxy removed `X-Forwarded-For`, so the client counted as HAProxy and had no limits."""
    heads: list[str] = []

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await stream.receive_some()
            heads.append(head.decode().lower())
            date = formatdate(usegmt=True)
            await stream.send_all(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 2\r\n\r\nok".encode())

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    back = listener.socket.getsockname()[1]
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    _store_certificate(tmp_path)
    async with _proxy(tmp_path, *surround(_printed(OPERATIONS, kind)[0]), command, back) as address:
        for named in ("X-Forwarded-For", "close, X-Forwarded-For", "keep-alive\r\nConnection: X-Forwarded-Proto"):
            fields = {"Host": f"{NAME}:{address.port}", "Connection": named}
            assert (await ask(address, "GET", "/", headers=fields)).status == 200
    assert [head.count("x-forwarded-for") for head in heads] == [1] * 3
    assert [re.findall("connection: .*x-.*", head) for head in heads] == [[]] * 3


@_needs("caddy")
async def test_a_node_that_is_down_is_left_out(tmp_path: Path) -> None:
    async with _behind(tmp_path, "caddy nodes", caddy, CADDY, NODES) as address:
        for number in range(10):
            headers = {"Host": f"{NAME}:{address.port}"}
            answer = await ask(address, "POST", "/rooms/lobby/messages", b"to either", headers=headers)
            assert (answer.status, answer.json["offset"]) == (201, number + 1), answer


@_needs("nginx")
async def test_nginx_takes_a_node_that_is_back_at_once(tmp_path: Path) -> None:
    """It answered 502 for ten seconds: during an update of two nodes a third of all requests."""
    front, ports = steady_port(), (steady_port(), steady_port())
    [(_, upstream)] = fences(NODES, "nginx nodes")
    for number, port in enumerate(ports, 1):
        upstream = upstream.replace(f"10.0.0.{number}:8000", f"127.0.0.1:{port}")
    plain = "server { listen %d; location / { proxy_pass http://chat; proxy_set_header Host $http_host; } }"
    name, config = nginx(upstream + plain % front)
    (tmp_path / name).write_text(config)
    address = Address("127.0.0.1", front)
    async with trio.open_nursery() as nursery:
        proxy: trio.Process = await nursery.start(partial(trio.run_process, NGINX, check=False, cwd=tmp_path))
        await until(lambda: _status(address), lambda status: status == 502)
        flags = ("--host", "127.0.0.1", "--log", "memory:")
        async with server_process(tmp_path, *flags, "--port", str(ports[1])):
            assert [await _status(address) for _ in range(4)] == [200] * 4
        proxy.terminate()


async def _status(address: Address) -> int:
    """The status of an answer; 0 without any."""
    try:
        return (await ask(address, "GET", "/healthz")).status
    except OSError:
        return 0
