"""The servers that are compared: the name of each, its protocols, and how it is installed and run.

Owns: the list. A new peer is a script in loadgen/peers/ and one row here, with the packages that it needs. Each has an
environment of its own, made once and used again: virtual environments, node's packages, and the commands that start a
server. Anything that is missing raises a `MissingError` that says what to do; nothing is ever installed into the
system. May not: start a server.
"""

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from importlib import metadata
from pathlib import Path
from typing import Final

SCRIPTS: Final = Path(__file__).parent.parent / "peers"

#: Seconds for an installation; on a slow network the largest needs one or two minutes.
INSTALL_SECONDS: Final = 300.0

_ASK_SECONDS: Final = 10.0

#: Run by the interpreter of an environment, with package names as arguments.
_VERSIONS: Final = """
import sys
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in sys.argv[1:]))
"""

#: Records what an installation was made from; while that is unchanged, it is used again.
_STAMP: Final = "made-from.txt"


class MissingError(Exception):
    """A server that cannot run here; the text says why, and what would help."""


class Kit:
    """What runs a server. The base class is for a server that runs already, and needs nothing."""

    def find(self) -> object:
        """Find what the system must provide, or raise `MissingError`."""
        return None

    def recipe(self) -> str:
        """What its environment is made from; empty if it needs none of its own."""
        return ""

    def make(self, home: Path) -> None:
        """Make the environment in this empty folder; may take a minute, and may raise `MissingError`."""
        raise NotImplementedError

    def is_ready(self, home: Path) -> bool:
        """Whether there is nothing to install: the environment was made from the present recipe."""
        try:
            self.find()
        except MissingError:
            return False
        stamp, recipe = home / _STAMP, self.recipe()
        return not recipe or (stamp.exists() and stamp.read_text() == recipe)

    def install(self, home: Path) -> None:
        """Have the environment made, or raise `MissingError`."""
        self.find()
        if recipe := self.recipe():
            shutil.rmtree(home, ignore_errors=True)  # what an attempt left that failed
            home.mkdir(parents=True)
            self.make(home)
            (home / _STAMP).write_text(recipe)

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        """Return the command that serves at `port` of 127.0.0.1; `work` is a fresh folder for its files."""
        raise NotImplementedError

    def versions(self, home: Path) -> str:
        return ""


class Chatserver(Kit):
    """Our own server, by its command, without shared code."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    def find(self) -> str:
        beside = Path(sys.executable).with_name("chatserver")
        found = str(beside) if beside.exists() else shutil.which("chatserver")
        if found is None:
            raise MissingError("there is no command chatserver; run make install")
        return found

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        flags = ["--port", str(port), "--ping-interval", f"{ping_seconds:g}", "--quiet"]
        return [self.find(), "serve", *flags, *self._arguments]

    def versions(self, home: Path) -> str:
        return _ask([self.find(), "--version"])


class Script(Kit):
    """A Python script of loadgen/peers/, and the packages that it needs."""

    def __init__(self, name: str, *arguments: str, needs: Sequence[str] = ()) -> None:
        self._path = SCRIPTS / name
        self._arguments = arguments
        self._needs = needs

    def recipe(self) -> str:
        """Nothing if all is in our own environment."""
        return "" if all(map(_is_here, self._needs)) else "\n".join((sys.version, *self._needs))

    def make(self, home: Path) -> None:
        _run([sys.executable, "-P", "-m", "venv", str(home)], "python -m venv (on Debian: apt install python3-venv)")
        pip = [str(_python(home)), "-P", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *self._needs], f"pip install {' '.join(self._needs)}")

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        flags = ["--port", str(port), "--ping", f"{ping_seconds:g}", *self._arguments]
        return [self._interpreter(home), str(self._path), *flags]

    def versions(self, home: Path) -> str:
        python = f"Python {sys.version.split()[0]}"
        names = [wanted.partition("[")[0] for wanted in self._needs]
        return f"{_ask([self._interpreter(home), '-c', _VERSIONS, *names])}, {python}" if names else python

    def _interpreter(self, home: Path) -> str:
        return str(_python(home)) if self.recipe() else sys.executable


class Node(Kit):
    """A folder of loadgen/peers/ with a package.json and a server.mjs."""

    def __init__(self, folder: str) -> None:
        self._folder = SCRIPTS / folder

    def find(self) -> None:
        for tool in ("node", "npm"):
            if shutil.which(tool) is None:
                raise MissingError(f"there is no {tool}; on Debian: apt install nodejs npm")

    def recipe(self) -> str:
        return "".join(path.read_text(encoding="utf-8") for path in sorted(self._folder.iterdir()) if path.is_file())

    def make(self, home: Path) -> None:
        """Copy the folder and install its packages there: node looks for packages beside the script."""
        shutil.copytree(self._folder, home, dirs_exist_ok=True)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(home)], "npm install")

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        return ["node", str(home / "server.mjs"), "--port", str(port), "--ping", f"{ping_seconds:g}"]

    def versions(self, home: Path) -> str:
        found = sorted((home / "node_modules").glob("*/package.json"))
        manifests = [json.loads(path.read_bytes()) for path in found]
        packages = [f"{package['name']} {package['version']}" for package in manifests]
        return ", ".join([*packages, f"node {_ask(['node', '-v'])}"])


class Nginx(Kit):
    """A folder of loadgen/peers/ with an nginx.conf to fill in; nginx and nchan come from the system."""

    _MODULES: Final = tuple(
        Path(folder, "ngx_nchan_module.so")
        for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
    )

    def __init__(self, folder: str) -> None:
        self._template = SCRIPTS / folder / "nginx.conf"

    def find(self) -> tuple[str, Path]:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        module = next((path for path in self._MODULES if path.exists()), None)
        if program is None or module is None:
            raise MissingError("nginx with nchan is not here; on Debian: apt install nginx libnginx-mod-nchan")
        return program, module

    def command(self, home: Path, work: Path, port: int, ping_seconds: float) -> list[str]:
        program, module = self.find()
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        filled = self._template.read_text(encoding="utf-8").format(
            module=module, port=port, ping=max(ping_seconds, 1.0), descriptors=descriptors
        )
        (work / "nginx.conf").write_text(filled)
        return [program, "-p", str(work), "-c", str(work / "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]

    def versions(self, home: Path) -> str:
        """Ask nginx; only the package manager knows nchan's version."""
        program, _ = self.find()
        return _ask([program, "-v"]).rpartition(": ")[2]


def _ask(command: Sequence[str]) -> str:
    """Return the first line that a program prints, to stdout or else to stderr; `unknown` if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter((done.stdout.strip() or done.stderr.strip()).splitlines()), "unknown")


def _python(home: Path) -> Path:
    return home / "bin" / "python"


def _is_here(requirement: str) -> bool:
    """Whether a package is installed in our environment; a requirement with extras or a version never is."""
    try:
        metadata.distribution(requirement)
    except (metadata.PackageNotFoundError, ValueError):
        return False
    return True


def _run(command: Sequence[str], what: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603  a command of this module
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MissingError(f"{what} was not done in {INSTALL_SECONDS:g} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        raise MissingError(f"{what} failed: {said[-1]}")


class Can(Flag):
    """What a server can do, which decides the scenarios that it takes part in."""

    HTTP = auto()  # answers GET /
    POLL = auto()  # holds long-polls, and takes messages over HTTP
    WEBSOCKET = auto()  # accepts clients at /ws, and confirms their join
    CHAT = auto()  # speaks chat.v1 there
    ALL = HTTP | POLL | WEBSOCKET | CHAT


@dataclass(frozen=True, kw_only=True)
class Peer:
    name: str
    title: str
    can: Can
    kit: Kit
    url: str = ""  # of a server that runs already
    groups: frozenset[str] = frozenset()  # the only groups of scenarios that it takes part in; empty = all that it can
    relay: str = ""  # path where a server that only relays takes messages for all members at /ws, see scenarios.py


OURS: Final = "chatserver"

_PEERS: Final = (
    Peer(name=OURS, title="this project's server, default limits", can=Can.ALL, kit=Chatserver()),
    Peer(name="chatserver-memory", title="the same with its log in memory, as all others have it", can=Can.ALL,
         kit=Chatserver("--log", "memory:"), groups=frozenset(("fanout", "beside"))),
    Peer(name="floor", title="a bare epoll loop in Python: no validation, no deadlines", can=Can.ALL,
         kit=Script("floor.py")),
    Peer(name="threaded", title="a thread for each connection, standard library", can=Can.ALL,
         kit=Script("threaded.py")),
    Peer(name="thread-pool", title="the same with 256 threads, as many as Apache has", can=Can.ALL,
         kit=Script("threaded.py", "--workers", "256"), groups=frozenset(("attack",))),
    Peer(name="websockets", title="websockets on asyncio, its broadcast()", can=Can.HTTP | Can.WEBSOCKET | Can.CHAT,
         kit=Script("websockets_asyncio.py", needs=["websockets"])),
    Peer(name="trio-websocket", title="trio-websocket, a task for each member", can=Can.WEBSOCKET | Can.CHAT,
         kit=Script("trio_websocket_chat.py", needs=["trio-websocket"])),
    Peer(name="aiohttp", title="aiohttp", can=Can.ALL, kit=Script("aiohttp_chat.py", needs=["aiohttp"])),
    Peer(name="uvicorn", title="Starlette on uvicorn with uvloop and httptools", can=Can.ALL,
         kit=Script("uvicorn_starlette.py", needs=["uvicorn", "uvloop", "httptools", "websockets", "starlette"])),
    Peer(name="hypercorn", title="Starlette on hypercorn, on trio", can=Can.ALL,
         kit=Script("hypercorn_starlette.py", needs=["hypercorn[trio]", "starlette"])),
    Peer(name="node-ws", title="ws on node", can=Can.ALL, kit=Node("node_ws")),
    Peer(name="nchan", title="nginx with nchan, one worker; no chat.v1", can=Can.HTTP | Can.WEBSOCKET,
         kit=Nginx("nchan"), relay="/publish"),
)  # fmt: skip

PEERS: Final[Mapping[str, Peer]] = {peer.name: peer for peer in _PEERS}
