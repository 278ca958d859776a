"""Attacks on servers of which the test knows what is wrong with them, played again where this machine may hide it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from loadgen.report import Outcome
from tests.loadgen.commandline import Ended, attack, tried
from tests.loadgen.planted import Plant, planted_process

Serving = AbstractContextManager[tuple[str, int]]

#: A victim's patience where failures are answers that never come.
IMPATIENT = 2.0


def attacked(
    server: Callable[[], Serving],
    kind: str,
    *arguments: str,
    good: Callable[[Ended], bool],
    **how: Any,
) -> Ended:
    """Attack a server until what is looked for was found, so long as the machine may have hidden it."""

    def play() -> Ended:
        with server() as (url, _):
            return attack(url, kind, *arguments, **how)

    return tried(play, good)


def falls_short(
    plant: Plant,
    kind: str = "idle-connect",
    *arguments: str,
    blamed: tuple[str, ...],
    watched: bool = False,
    **how: Any,
) -> Ended:
    """Attack a chat whose fault shows in counts: the verdict is the same on a loaded machine."""
    with planted_process(plant, watched=watched) as (url, pid):
        watching = ("--server-pid", str(pid)) if watched else ()
        ended = attack(url, kind, *arguments, *watching, **how)
    assert ended.code == 1, ended
    assert ended.outcome is Outcome.FELL_SHORT
    assert ended.blames(*blamed), ended
    return ended


def is_late(plant: Plant, *, blamed: tuple[str, ...], **how: Any) -> None:
    """Attack a chat whose fault shows in times: on a loaded machine it is told, and the verdict *invalid*."""
    server = partial(planted_process, plant)
    ended = attacked(server, "idle-connect", "--victim", "ws", good=lambda ended: ended.blames(*blamed), **how)
    assert ended.blames(*blamed), ended
    assert ended.code == 1 or (ended.code == 3 and ended.was_disturbed), ended
    if "recovery_p99_over_bar_ms" in blamed:
        assert re.search(r"late at the 99th percentile: .* in the recovery \d\S* ms \(bar \d", ended.notes), ended


def held(server: Callable[[], Serving], kind: str, *arguments: str, **how: Any) -> Ended:
    """Attack a sound server: a loaded machine may keep an attack from coming, and makes no server fall short."""
    ended = attacked(server, kind, *arguments, good=lambda ended: ended.outcome is not Outcome.NOT_EXERCISED, **how)
    assert ended.is_sound, ended
    return ended
