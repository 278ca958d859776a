"""The registry, and docs/personas.md's promise that one small file is all it takes."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import NonCallableMock

import pytest

from loadgen import flags, personas
from loadgen.clients.client import Attacker, Client, Needs, state
from loadgen.personas import load, registry, summary
from tests.loadgen.stage import DEADLINE_ANSWER, meeting, parsed, read_until, until

PAGE = Path(__file__).parents[3] / "docs" / "personas.md"


def test_every_persona_says_what_it_is() -> None:
    for name, cls in registry().items():
        assert cls.name == name
        assert summary(cls).endswith("."), f"{name}: the first line of the docstring is a sentence"
        assert 20 < len(summary(cls)) < 110, name
        assert cls.__module__.startswith(("loadgen.personas.", "loadgen.protocols.")), name
        assert re.fullmatch(r"[a-z][a-z0-9-]*", name)
        assert isinstance(cls.needs, Needs), name
        assert not (cls.slow and not cls.honest), name
        assert 0 < cls.usual_clients <= 10_000, name
        assert cls.__dictoffset__ == 0, f"{name}: 18,000 clients would each have a dictionary"


async def test_the_example_of_the_page_is_a_persona(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [text] = re.findall(r"^```python persona\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    monkeypatch.setattr(personas, "_registry", dict(registry()))
    file = tmp_path / "second_head.py"
    file.write_text(text)
    load(str(file))
    second = registry()["second-head"]
    assert summary(second).startswith("Asks for a page, and then")
    monkeypatch.setattr(second, "every_seconds", 0.001)
    async with meeting(second) as (play, stream):
        said = await read_until(stream, lambda got: got.count(b"X-Line") >= 3)
        first, rest = said[: said.index(b"\r\n\r\n") + 4], said[said.index(b"\r\n\r\n") + 4 :]
        assert parsed(first)[0].target == b"/"
        assert (b"x-line", b"1") in parsed(rest + b"\r\n")[0].headers
        assert play.cohort.held == 1
        await stream.send_all(DEADLINE_ANSWER)
        await stream.aclose()
        await until(lambda: play.cohort.ended == {"answered 408": 1})


def test_a_persona_of_a_users_own_is_an_honest_client_unless_it_is_an_attacker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subclass of `Client` without `honest` was loaded, and then ended the command with a traceback."""
    monkeypatch.setattr(personas, "_registry", dict(registry()))
    file = tmp_path / "caller.py"
    file.write_text(
        "from loadgen.clients.client import Client\nfrom loadgen.personas import persona\n\n"
        '@persona\nclass Visitor(Client):\n    """Connects and waits."""\n\n    name = "caller"\n'
    )
    load(str(file))
    assert flags.mix("caller=100", 3) == {registry()["caller"]: 3}


def test_state_is_each_clients_own_beside_slots_and_bases_of_any_kind() -> None:
    """A plain base, or slots named in a text, ended the load of a file with a traceback."""

    class Helper:
        def twice(self) -> int:
            return 2

    class Counting(Helper, Attacker):
        __slots__ = "note"  # noqa: PLC0205  as a file outside may have it

        count = state(7)

    class More(Counting):
        count = state(8)
        name_of_it = state("")

    def made(kind: type[Client]) -> Any:
        return kind(NonCallableMock(first_index=0), 0)

    first, second, third = made(Counting), made(Counting), made(More)
    first.count += first.twice()
    first.note = "x"
    assert (first.count, second.count, third.count, third.name_of_it, third.answered) == (9, 7, 8, "", 0)
