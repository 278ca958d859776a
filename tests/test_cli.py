import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from chatserver import __main__ as chatserver_program
from chatserver import __version__, cli
from chatserver.net.descriptors import MAX_DESCRIPTORS
from chatserver.settings.describe import print_limits, shown_value
from chatserver.settings.fields import MAX_WORKERS, SPECS, Settings, flag_name
from chatserver.settings.spec import Section
from loadgen import __main__ as loadgen_program
from tests.support.forking import fork
from tests.support.peers import PATIENCE
from tests.support.tty import Tty

#: The commands of each group, and what no help may have.
GROUPS = {"": "serve limits chat token doctor admin", "admin": "mute unmute ban unban kick delete sanctions audit"}
PYTHON = (" STR", " FLOAT", " PATH", "ARGS", "False", '""', "()")
ADMIN_FLAGS = ("--room", "r", "--token", "t")


def run(*tokens: str) -> int:
    return cli.run_command(list(tokens))


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings in the environment; signal handlers are restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTTOU)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"chatserver {__version__}\n"


def test_help_of_serve_shows_every_flag_with_default_and_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("serve", "--help-all") == 0
    shown = capsys.readouterr().out
    for name, default in ((name, getattr(Settings(), name)) for name in SPECS):
        assert f"--{flag_name(name)} " in shown
        if not isinstance(default, bool):
            assert f"[default: {shown_value(name, default)}]" in shown
    for value in ("head-deadline SECONDS", "max-body-bytes BYTES", "flush-rate BYTES", "per-ip N", "port N",
                  "host ADDRESS", "tls-key FILE", "log-format FORMAT"):  # fmt: skip
        assert f"--{value} " in shown
    assert " STR" not in shown, "a Python type"


@pytest.mark.parametrize("command", ["serve", "limits"])
def test_help_of_the_servers_flags_is_short(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert {name for name in SPECS if f"--{flag_name(name)} " in shown} == cli.COMMON
    assert "--help-all" in shown


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_has_help_without_python_names(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*group.split(), "--help") == 0
    listed = capsys.readouterr().out
    for name in GROUPS[group].split():
        assert f"│ {name} " in listed
        assert run(*group.split(), name, "--help") == 0
        shown = capsys.readouterr().out
        assert " ".join(["chatserver", *group.split(), name]) in shown
        assert [python for python in PYTHON if python in shown] == [], name


def test_a_reload_during_the_start_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service manager treats an end by SIGHUP as clean, and does not restart the server."""
    monkeypatch.setattr("chatserver.server.run", lambda _: signal.getsignal(signal.SIGHUP))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    assert run("serve") == signal.SIG_IGN


def test_no_line_of_the_log_stops_a_process_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are there: at a terminal with `stty tostop` all of them stopped at their first line, again and again."""
    monkeypatch.setattr("chatserver.server.run", lambda _: signal.getsignal(signal.SIGTTOU))
    assert run("serve") == signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_start_is_a_clean_end(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a handler, process 1 of a container ignores the signal, and any other process is killed; after Ctrl-C
    there was a traceback of two pages."""
    ends = Mock()
    monkeypatch.setattr("os._exit", ends)
    monkeypatch.setattr("chatserver.server.run", lambda _: signal.raise_signal(number))
    signal.signal(number, signal.SIG_IGN)
    run("serve")
    ends.assert_called_once_with(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_the_interpreter_ends_is_a_clean_end(number: signal.Signals) -> None:
    """Python removes handlers then: a second signal, soon after the first one, ended the server with exit code -15."""
    program = (
        "import signal, sys; from chatserver import cli, server; server.run = lambda _: 0; sys.argv[1:] = ['serve']\n"
        f"class Last: __del__ = lambda _, send=signal.raise_signal: send({number:d})\n"
        "last = Last(); cli.main()"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_serve_passes_its_settings_to_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def fake_run(settings: Settings) -> int:
        seen.append(settings)
        return 3

    monkeypatch.setattr("chatserver.server.run", fake_run)
    monkeypatch.setattr("chatserver.cli.memory_limit", lambda: 512 << 20)
    Path("chat.toml").write_text("port = 1\nhead-deadline = 4")
    code = run("serve", "--host", "::1", "--host", "127.0.0.1", "--port", "0", "--echo", "--config", "chat.toml")
    assert code == 3
    given = Settings(host=("::1", "127.0.0.1"), port=0, echo=True, head_deadline=4.0)
    assert seen == [replace(given, max_rooms=29_184, all_rings_bytes=57 << 20)]


def test_several_workers_have_a_supervisor_which_reads_the_settings_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Settings] = []

    def fake_run(settings: Settings, load: Callable[[], Settings]) -> int:
        Path("chat.toml").write_text("workers = 2\nper-ip = 8")
        found.extend((settings, load()))
        return 4

    monkeypatch.setattr("chatserver.workers.supervisor.run", fake_run)
    Path("chat.toml").write_text("workers = 2\nper-ip = 7")
    assert run("serve", "--port", "0", "--config", "chat.toml") == 4
    assert found == [Settings(port=0, workers=2, per_ip=each) for each in (7, 8)]


def test_an_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatserver.server.run", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(SystemExit, match="130"):
        run("serve")


def test_an_interrupt_in_a_nursery_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` ended with a traceback of 60 lines, and with code 1: something is wrong."""
    group = BaseExceptionGroup("a nursery in a nursery", [BaseExceptionGroup("", [KeyboardInterrupt()])])
    monkeypatch.setattr("chatserver.server.run", Mock(side_effect=group))
    assert run("serve") == 130
    monkeypatch.setattr("chatserver.server.run", Mock(side_effect=ExceptionGroup("a bug", [ValueError()])))
    with pytest.raises(ExceptionGroup):
        run("serve")


def test_bad_flags_are_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("binary").write_bytes(b"\xff\xfe")
    Path("empty").write_text("\n")
    for tokens, words in (
        (["serve", "--port", "x"], "--port: 'x' is not a whole number"),
        (["serve", "--port"], "--port needs a value. Usage: chatserver serve [OPTIONS]; see chatserver serve --help"),
        (["serve", "--prot", "1"], "Did you mean --port?"),
        (
            ["serve", "extra"],
            "Unexpected argument 'extra'. Usage: chatserver serve [OPTIONS]; see chatserver serve --help",
        ),
        (["serve", "--quiet=x"], "--quiet: 'x' is not true or false. Usage: "),
        (["limits", "--head-deadline", "0"], "--head-deadline: 0 s is below the minimum, 0.1 s"),
        (["limits", "--config", "none.toml"], "--config: cannot read none.toml: No such file or directory\n"),
        # A reload of workers found a pipe at its end, and went on with the defaults; at a named one it waited for ever.
        (["limits", "--config", os.devnull], "--config: /dev/null is no regular file, which is needed to read"),
        (["sevre"], "sevre"),
        (["chat"], "URL is missing. Usage: chatserver chat [OPTIONS] URL; see chatserver chat --help"),
        (["chat", "a", "b"], "Unexpected argument 'b'. Usage: chatserver chat [OPTIONS] URL; "),
        (["chat", "http://h/rooms/ops"], "URL: 'http://h/rooms/ops' is the address of a room; say http://h --room ops"),
        (["token", "--sub", "u"], "--key is missing. Usage: chatserver token --key FILE --sub ID [OPTIONS]; "),
        (["token", "--kye", "k", "--sub", "u"], "--key is missing. Did you mean --key instead of --kye? Usage: "),
        (["limits", "--por"], "Did you mean --port? Usage: chatserver limits [OPTIONS]; see chatserver limits --help"),
        (["chat", "ftp://x"], "URL: 'ftp://x'"),
        (["chat", "x", "--name", "\udcff"], "a word of the command line is not UTF-8"),
        (["chat", "x", "--retry-for", "soon"], "--retry-for: 'soon' is not a number. Usage: "),
        (["chat", "x", "--retry-for", "-1"], "--retry-for: -1 is no number of seconds\n"),
        (["chat", "x", "--retry-for", "nan"], "--retry-for: nan is no number of seconds\n"),
        (["chat", "x", "--token", ""], "--token: this is no token\n"),
        (["chat", "x", "--token", "@none"], "--token: cannot read none: No such file or directory\n"),
        (["chat", "x", "--token", "@binary"], "--token: cannot read binary: it is no text\n"),
        (["chat", "x", "--token", "binary"], "--token: binary is a file; --token @binary reads it\n"),
        (["chat", "x", "--token", "@empty"], "--token: cannot read empty: it is empty\n"),
        *(
            (["chat", "x", "--send", "--retry-for", "0", "--room", room], "--room: 1 to 64 characters")
            for room in ("Ops", "a b", "", "a" * 65)  # the empty one: of a variable that is not set
        ),
        (["doctor", "ftp://somewhere"], "URL: 'ftp://somewhere' is none of"),
        (["doctor", "http://host:x"], "URL: 'http://host:x': 'x' is no port"),
        (["doctor", "host:1", "http://host:1/"], "URL: one is given twice"),
        (["doctor", "host:1", "--token", "a\nb"], "--token: this is no token"),
        (["doctor", "host:1", "--token", ""], "--token: this is no token\n"),
        *(
            (["doctor", "host:1", "--room", room], "--room: 1 to 50 characters")
            for room in ("Ops", "a b", "", "a" * 51)
        ),
        (["doctor"], "URL is missing. Usage: chatserver doctor "),
        (["admin", "mute", "http://x", "--token", "t", "--user", "u"], "--room"),
        (["admin", "mute", "http://x", "--room", "r", "--user", "u"], "--token"),
        (["admin", "mute", *ADMIN_FLAGS, "--user", "u"], "URL is missing. Usage: chatserver admin mute --room"),
        (["admin", "mute", "http://x", *ADMIN_FLAGS], "--user: give one of --user, --network and"),
        (["admin", "ban", "http://x", *ADMIN_FLAGS, "--user", "u", "--network", "n"], "give one of --user"),
        (["admin", "mute", "http://x", *ADMIN_FLAGS, "--user", "u", "--for", "1y"], "--for: '1y' is no time"),
        (["admin", "mute", "http://x", *ADMIN_FLAGS, "--user", "u", "--for", "0s"], "--for: '0s' is no time"),
        # The empty value of a variable that is not set made a ban without an end.
        (["admin", "ban", "http://x", *ADMIN_FLAGS, "--user", "u", "--for", ""], "--for: '' is no time"),
        *(
            (["admin", command, "http://x", "--token", "t", "--room", room, *flags], "--room: 1 to 64 characters")
            for command, *flags in (("kick", "--user", "u"), ("unban", "--user", "u"), ("delete", "--offset", "1"))
            for room in ("", "Ops")
        ),
        (["admin", "delete", "http://x", *ADMIN_FLAGS, "--offset", "x"], "--offset"),
        (["admin", "audit", "gopher://x", "--token", "t"], "URL: 'gopher://x' is none of"),
        (["admin", "audit", "http://x", "--token", "a b\n"], "--token: this is no token"),
        (["admin", "audit", "http://x", "--token", ""], "--token: this is no token"),
        (["admin", "silence", "http://x"], "silence"),
    ):
        assert run(*tokens) == 2, tokens
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1), tokens
        assert shown.err.startswith("chatserver: ")
        assert words in shown.err


def test_limits_in_a_pipe_are_aligned_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("limits", "--ping-interval", "7") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(spec.section is not Section.SERVICE for spec in SPECS.values())
    (line,) = [line for line in lines if line.startswith("--ping-interval ")]
    assert line.split()[1:3] == ["7", "s"]
    starts = {line.index(SPECS[line.split()[0][2:].replace("-", "_")].meaning) for line in lines}
    assert len(starts) == 1


def test_limits_show_how_many_connections_the_descriptors_allow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the limit that operators ask for most there was `0 (from RLIMIT_NOFILE)`.

    Where a process may have 2^20 descriptors, as usual, two workers hold more than the flag allowed: it was an error.
    """
    for descriptors, workers, most in (
        (1064, "1", "1,000"), (1064, "3", "3,000"), (MAX_DESCRIPTORS, str(MAX_WORKERS), "268,419,072"),
    ):  # fmt: skip
        monkeypatch.setattr("chatserver.net.descriptors.raise_descriptor_limit", Mock(return_value=descriptors))
        assert run("limits", "--workers", workers) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--max-connections ")]
        assert line.split()[1:3] == [most, "connections"]


def test_limits_show_what_a_small_container_allows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the server was killed in a container of 128 MiB: its rooms alone might take 256 MiB."""
    monkeypatch.setattr("chatserver.cli.memory_limit", lambda: 128 << 20)
    assert run("limits", "--max-rooms", "5000") == 0
    values = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    assert [values["--max-rooms"], values["--all-rings-bytes"]] == ["5,000", "9,437,184"]
    assert run("limits", "--workers", "2") == 0
    assert capsys.readouterr().err == ""
    assert run("limits", "--workers", "3") == 0
    assert "128 MiB of memory are allowed here, and without clients 3 x 56 MiB are used" in capsys.readouterr().err


def test_limits_on_a_terminal_are_a_table_that_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    file = Tty()
    print_limits(Settings(), file)
    words = set(re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).split())
    assert {"--max-rooms-per-connection", "65,536"} <= words
    assert [file.getvalue().count(once) for once in ("Deadlines", "--ping-interval")] == [1, 1]


#: Its output is short: it is in the buffer until it is flushed.
TOKEN = "token --key secret --sub ann"


def with_output_to(descriptor: int, program: str, command: str) -> tuple[int, str]:
    """Run a command, which writes when its buffer is full, as usual. Returns its exit code and its errors."""
    Path("secret").write_bytes(bytes(32))  # of `TOKEN`
    with Path(os.devnull).open("rb") as nothing, Path("errors").open("wb") as errors:
        process = fork(
            f"{program}.__main__", *command.split(), stdin=nothing.fileno(), stdout=descriptor, stderr=errors.fileno(),
            needs=(f"{program}.cli",),
        )  # fmt: skip
        code = process.wait(PATIENCE)
    return code, Path("errors").read_text()


def test_output_that_nobody_reads_any_more_is_no_fault() -> None:
    """`chatserver serve --help | head` had the exit code of a fault."""
    for command in ("limits", "serve --help-all", TOKEN):  # rich prints help
        reader, writer = os.pipe()
        os.close(reader)
        assert with_output_to(writer, "chatserver", command) == (0, ""), command
        os.close(writer)


def test_help_imports_neither_trio_nor_the_server() -> None:
    """Commands import inside of functions, because help and tab completion must be quick."""
    program = (
        "import sys; from chatserver import cli; cli.run_command(['serve', '--help']);"
        "sys.exit(any(name in sys.modules for name in ('trio', 'chatserver.server', 'wsproto')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0


def test_an_interrupt_during_the_imports_is_no_traceback() -> None:
    Path("cyclopts.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")  # imported from this folder
    for command in ("chatserver", "loadgen"):
        done = subprocess.run([sys.executable, "-m", command], check=False, capture_output=True)
        assert (done.returncode, done.stderr) == (130, b"")


def test_what_was_imported_is_not_collected_at_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's last collections took a quarter of the CPU of a short command."""
    monkeypatch.setattr("sys.argv", ["program", "--version"])
    for main in (chatserver_program.main, loadgen_program.main):
        monkeypatch.setattr("gc.freeze", freeze := Mock())
        with pytest.raises(SystemExit):
            main()
        freeze.assert_called_once_with()


def test_output_that_cannot_be_written_is_an_error_of_one_line() -> None:
    """Only a full disk was: a quota, a limit on the size of files and a terminal that is gone ended in a traceback."""
    terminal, gone = os.openpty()
    os.close(terminal)
    with Path("/dev/full").open("wb") as full, os.fdopen(gone, "wb"):
        for output, why in ((full.fileno(), "No space left on device"), (gone, "Input/output error")):
            for program, command, code in (
                ("chatserver", "limits", 1), ("chatserver", "serve --help", 1), ("chatserver", TOKEN, 1),
                ("loadgen", "list", 2),
            ):  # fmt: skip
                line = f"{program}: standard output: {why}\n"
                assert with_output_to(output, program, command) == (code, line), command


def test_a_server_that_cannot_print_its_address_says_so_and_serves() -> None:
    program = "from chatserver.listening import announce; announce(['http://a'], '')"
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"chatserver: standard output: No space left on device\n")


def test_a_server_whose_outputs_are_both_on_a_full_disk_or_full_pipes_serves() -> None:
    """Before it had printed its address it waited for ever for the reader of the pipe, and served nobody."""
    program = (
        "import os; from chatserver import exits; exits.READER_PATIENCE = 0;"
        "from chatserver.listening import announce; announce(['http://a'], ''); os._exit(7)"
    )
    reader, pipe = os.pipe()
    os.write(pipe, bytes(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)))
    with Path("/dev/full").open("wb") as disk, os.fdopen(reader, "rb"), os.fdopen(pipe, "wb"):
        for full in (disk.fileno(), pipe):
            command = [sys.executable, "-c", program]
            done = subprocess.run(command, check=False, stdout=full, stderr=full, timeout=PATIENCE)
            assert done.returncode == 7


def test_output_is_utf_8_whatever_the_locale() -> None:
    """The doctor's marks, names and units are not in every character set."""
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    program = "from chatserver import cli; cli.run_command = lambda _: print('µ ✓'); cli.main()"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, env=ascii_only)
    assert done.stdout.decode() == "µ ✓\n"


def test_a_closed_descriptor_is_no_error() -> None:
    """A closed standard stream is None, which has no `flush`."""
    closed = "<&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", f"{shlex.quote(sys.executable)} -m chatserver limits {closed}"], check=False)
    assert done.returncode == 0


def test_a_process_that_is_started_has_standard_streams_where_ours_were_closed() -> None:
    """Without them it would take its first file for its standard error: workers did not start."""
    started = "import os; [os.fstat(each) for each in range(3)]"
    program = (
        "import subprocess, sys; from chatserver import cli;"
        f" cli.run_command = lambda _: subprocess.call([sys.executable, '-c', '{started}']); cli.main()"
    )
    done = subprocess.run(["sh", "-c", f'{shlex.quote(sys.executable)} -c "{program}" <&- >&- 2>&-'], check=False)
    assert done.returncode == 0
