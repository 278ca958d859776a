"""How hypothesis plays the rules of a machine.

Owns: the shape of an example. It is a list of rules and not a `RuleBasedStateMachine`, which disables about half of its
rules in each example, in some all but one: a dozen examples then never published over HTTP and met no slow reader. May
not: know what a rule does.
"""

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import choices, grammar
from tests.fuzz.machine import ACTS, Act, ConnectionMachine

#: Rules in one example.
STEPS = 40
#: Rules before a drain may begin: after it little else happens.
LATE = 25


def play(kind: type[ConnectionMachine], examples: int, *, seed: int | None = None) -> None:
    """Let hypothesis play so many examples; without a seed others each time.

    In one call it would make five of six examples by copying parts of the one before: of the 16,400 rules in 400
    examples, 1,877 were different ones. So each example has a call, which tries the simplest one first.
    """

    @settings(max_examples=2, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
    @given(
        is_chosen=st.integers(0, 1 << 32),
        joins=st.lists(st.sampled_from(grammar.ROOMS), max_size=3),
        amid=st.tuples(choices.UNDER_WAY, choices.SIZES, choices.DELAYS),
        acts=st.lists(st.one_of(ACTS), min_size=STEPS, max_size=STEPS),
        drained=st.integers(LATE, STEPS),
    )
    def example(
        is_chosen: int, joins: list[str], amid: tuple[list[str], int, float], acts: list[Act], drained: int
    ) -> None:
        if not is_chosen:
            return  # the simplest example, in every call the same
        machine = kind()
        try:
            machine.begin(joins)
            machine.begin_amid(*amid)
            for number, (name, drawn) in enumerate(acts):
                if number == drained:
                    machine.drain()
                machine.do(name, drawn)
        finally:
            machine.teardown()

    for number in range(examples):
        (example if seed is None else hypothesis.seed(2 * (seed + number) + kind.secure)(example))()
