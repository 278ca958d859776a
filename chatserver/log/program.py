"""What a log calls on the loop of the program that runs it.

Owns: these calls, and those of a program without a scheduler. May not: know what a log is.
"""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: Called with rooms that another process has written, and the last offset known of each; a name that begins with an
#: asterisk stands for data other than messages.
OnHints = Callable[[Mapping[str, int]], None]
#: Does a small part of some work, and returns whether there is more.
Step = Callable[[], bool]
#: Calls a step on the loop, at once or later, until it returns that there is no more.
RunSteps = Callable[[Step], None]
#: Called from any thread to have the loop make a call before its tasks run. False: it will not, so ask trio instead.
Post = Callable[[Callable[[], object]], bool]
#: Makes a call on the loop when that is about to wait for events, or has worked for a while. The call may not use trio.
Defer = Callable[[Callable[[], object]], object]
#: Called in the except clause for a fault of ours, with the object in which it happened: counts and logs it.
Faulted = Callable[[object], None]


def ignore_hints(hints: Mapping[str, int]) -> None:
    """The `OnHints` of a program that reads the log only on demand."""


def at_once(step: Step) -> None:
    """The `RunSteps` of a program without a scheduler: do all steps now."""
    while step():
        pass


def never_post(call: Callable[[], object]) -> bool:
    """The `Post` of a program without a scheduler."""
    return False


def call_now(call: Callable[[], object]) -> None:
    """The `Defer` of a program without a scheduler."""
    call()


def log_fault(item: object) -> None:
    """The `Faulted` of a program that counts no faults."""
    logging.getLogger(__name__).exception("a fault in %s", type(item).__name__)  # noqa: LOG004  see Faulted


class Program(NamedTuple):
    """The calls. The defaults read on demand, without a scheduler."""

    on_hints: OnHints = ignore_hints  # only of a shared log
    schedule: RunSteps = at_once  # gets a step that hands out the answers of finished groups, a few in each call
    post: Post = never_post  # brings outcomes back from threads: of reads, and of some groups
    defer: Defer = call_now  # wakes a thread for a group
    faulted: Faulted = log_fault  # for an exception in `news`, in an answer or in the log itself, which goes on


PLAIN_PROGRAM = Program()
