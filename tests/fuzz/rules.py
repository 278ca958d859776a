"""What makes a rule of a method of the machine.

Owns: the list of all rules with what they draw, and that each runs in the world's thread and is followed by the
invariants. May not: know a rule.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from hypothesis import strategies as st

from tests.fuzz import at_rest

if TYPE_CHECKING:
    from tests.fuzz.machine import ConnectionMachine

Rules = TypeVar("Rules", bound="ConnectionMachine")
Drawn = ParamSpec("Drawn")
Result = TypeVar("Result")
Act = tuple[str, dict[str, Any]]
"""The name of a rule, and what it has drawn."""

#: One of these is drawn at a time.
ACTS: list[st.SearchStrategy[Act]] = []


def act(method: Callable[Concatenate[Rules, Drawn], Awaitable[Result]]) -> Callable[Concatenate[Rules, Drawn], Result]:
    """A method that runs in the world's thread, followed by the invariants."""

    def run(self: Rules, /, *arguments: Drawn.args, **drawn: Drawn.kwargs) -> Result:
        async def step() -> Result:
            result = await method(self, *arguments, **drawn)
            await self.world.listen()
            await at_rest.check_when_quiet(self.world)
            return result

        return self.world.do(step)

    return cast(Callable[Concatenate[Rules, Drawn], Result], wraps(method)(run))


def rule(
    weight: int = 1, **drawn: st.SearchStrategy[Any]
) -> Callable[
    [Callable[Concatenate[Rules, Drawn], Awaitable[None]]], Callable[Concatenate[Rules, Drawn], None]
]:  # fmt: skip
    """An act for which hypothesis draws the arguments."""

    def wrap(method: Callable[Concatenate[Rules, Drawn], Awaitable[None]]) -> Callable[Concatenate[Rules, Drawn], None]:
        ACTS.extend(st.tuples(st.just(method.__name__), st.fixed_dictionaries(drawn)) for _ in range(weight))
        return act(method)

    return wrap
