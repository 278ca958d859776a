"""Environments: made once, used again, made anew after a change; a failure is one clear line.

No package index is used: the installed package is a wheel of three files, made here.
"""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pip
import pytest

from loadgen.compare import catalogue
from loadgen.compare.catalogue import PEERS, Chatserver, MissingError, Nginx, Node, Script


def make_wheel(folder: Path, version: str) -> Path:
    """A package `tiny` that knows its version."""
    path = folder / f"tiny-{version}-py3-none-any.whl"
    info = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")))
    return path


def make_script(folder: Path, *wanted: str) -> Script:
    """A script that prints which `tiny` it has."""
    (folder / "script.py").write_text("import tiny\nprint(tiny.VERSION)\n")
    return Script(str(folder / "script.py"), needs=wanted)


def said_by(script: Script, home: Path) -> str:
    command = script.command(home, home, 1, 1.0)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


@pytest.fixture
def our_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments with a link to the pip that we have: to install one takes four seconds of CPU."""
    run = catalogue._run

    def make(command: Sequence[str], what: str) -> None:
        if "venv" not in command:
            run(command, what)
            return
        run([*command, "--without-pip"], what)
        [packages] = Path(command[-1]).glob("lib/python*/site-packages")
        (packages / "pip").symlink_to(Path(pip.__file__).parent)

    monkeypatch.setattr(catalogue, "_run", make)


@pytest.mark.slow
@pytest.mark.usefixtures("our_pip")
def test_an_environment_is_made_once_and_again_when_the_script_wants_something_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    script = make_script(tmp_path, f"tiny @ {make_wheel(tmp_path, '1.0').as_uri()}")
    assert not script.is_ready(home)
    script.install(home)
    assert script.is_ready(home)
    assert said_by(script, home) == "1.0"

    missing = make_script(tmp_path, f"tiny @ {(tmp_path / 'nothing-1.0-py3-none-any.whl').as_uri()}")
    with pytest.raises(MissingError, match=r"^pip install tiny @ file:.* failed: .") as failed:
        missing.install(home)
    assert "\n" not in str(failed.value), "one clear line"
    assert not missing.is_ready(home)

    changed = make_script(tmp_path, f"tiny @ {make_wheel(tmp_path, '2.0').as_uri()}")
    assert not changed.is_ready(home)
    changed.install(home)  # what is left of the attempt that failed is no obstacle
    assert changed.is_ready(home)
    assert said_by(changed, home) == "2.0"


def test_what_is_here_is_not_installed_again(tmp_path: Path) -> None:
    script = Script("script.py", needs=["trio", "msgspec"])
    assert script.is_ready(tmp_path / "home")
    assert "trio " in script.versions(tmp_path / "home")
    assert Script("script.py").is_ready(tmp_path / "home")


def test_what_the_system_lacks_is_named_and_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _, path=None: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for kit, advice in (
        (Node("node_ws"), "apt install nodejs npm"),
        (Nginx("nchan"), "apt install nginx libnginx-mod-nchan"),
        (Chatserver(), "make install"),
    ):
        assert not kit.is_ready(tmp_path)
        with pytest.raises(MissingError, match=advice):
            kit.install(tmp_path)


def test_these_run_wherever_the_project_does(tmp_path: Path) -> None:
    for name in ("floor", "threaded", "thread-pool", "websockets", "trio-websocket"):
        assert PEERS[name].kit.is_ready(tmp_path), name


def test_nginx_is_told_its_port_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nginx, "find", lambda _: ("/usr/sbin/nginx", Path("/usr/lib/nchan.so")))
    command = Nginx("nchan").command(tmp_path, tmp_path, 4321, 20.0)
    assert command[:3] == ["/usr/sbin/nginx", "-p", str(tmp_path)]
    written = (tmp_path / "nginx.conf").read_text()
    for line in ("load_module /usr/lib/nchan.so;", "listen 127.0.0.1:4321 ", "nchan_websocket_ping_interval 20;"):
        assert line in written
    assert "{{" not in written


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        (sys.executable, "print('1.0')", "1.0"),
        (sys.executable, "import time; time.sleep(60)", "unknown"),
        (sys.executable, "1 / 0", "unknown"),
        ("/no/such/program", "", "unknown"),
    ],
)
def test_a_version_that_cannot_be_asked_for_is_unknown(
    program: str, code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was an exception at the end of a comparison, or a line of a traceback: after Ctrl-C in an installation."""
    monkeypatch.setattr(catalogue, "_ASK_SECONDS", 0.5 if "sleep" in code else 60.0)
    assert catalogue._ask([program, "-c", code]) == told
