"""How hypothesis plays the rules of a machine.

Owns: the shape of an example. It is a list of rules and not a `RuleBasedStateMachine`, which disables about half of its
rules in each example, in some all but one: a dozen examples then never published over HTTP and met no slow reader. May
not: know what a rule does.
"""

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import choices, grammar
from tests.fuzz.choices import Chosen
from tests.fuzz.machine import ConnectionMachine
from tests.fuzz.rules import ACTS, Act

Events = tuple[str, str, bool]
"""A preparation, a strike, and whether the strike comes before the fates."""

#: Rules in one example.
STEPS = 26
#: Rules before a drain may begin, if it does not come at once: after it little else happens. In half of the examples it
#: comes when all peers have left, and it is checked first that they have left nothing behind.
LATE = 16
Story = tuple[list[str], tuple[list[str], int, float], list[str], Events, list[Act], int]
#: The rooms, what is under way, the fate of each peer, the events of all, the acts, and before which of them it drains.
STORIES: st.SearchStrategy[Story] = st.tuples(
    st.lists(st.sampled_from(grammar.ROOMS), max_size=3),
    st.tuples(choices.UNDER_WAY, choices.SIZES, choices.DELAYS),
    st.lists(st.sampled_from(list(choices.FATES)), min_size=choices.FIRST, max_size=choices.FIRST),
    st.tuples(st.sampled_from(list(choices.PREPARATIONS)), st.sampled_from(list(choices.STRIKES)), st.booleans()),
    st.lists(st.one_of(ACTS), min_size=STEPS, max_size=STEPS),
    st.one_of(st.just(STEPS), st.sampled_from((0, 0, *range(LATE, STEPS)))),
)


def open_with(machine: ConnectionMachine, events: Events, first: list[Chosen], fates: list[str]) -> None:
    """Let the peers that are in the middle of something meet what is drawn for all, and for each of them."""
    preparation, strike, is_first = events
    to_each = [  # backwards, since one that leaves moves those after it
        (name, {"puppet": puppet, **drawn})
        for puppet, fate in reversed([*zip(first, fates, strict=False)])
        for name, drawn in choices.FATES[fate]
    ]
    to_all = choices.STRIKES[strike]
    for act in (*choices.PREPARATIONS[preparation], *(to_all if is_first else to_each)):
        machine.do(*act)
    for act in to_each if is_first else to_all:
        machine.do(*act)


def play(kind: type[ConnectionMachine], examples: int, *, seed: int | None = None) -> None:
    """Let hypothesis play so many examples; without a seed others each time.

    In one call it would make five of six examples by copying parts of the one before: of the 16,400 rules in 400
    examples, 1,877 were different ones. So each example has a call, which tries the simplest one first.
    """

    @settings(max_examples=2, deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 1 << 32).flatmap(lambda chosen: STORIES if chosen else st.none()))
    def example(story: Story | None) -> None:
        if story is None:
            return  # the simplest example, in every call the same
        joins, amid, fates, events, acts, drained = story
        machine = kind()
        try:
            machine.begin(joins)
            machine.begin_amid(*amid)
            open_with(machine, events, [Chosen(None, number + len(joins)) for number in range(len(amid[0]))], fates)
            for number, (name, drawn) in enumerate(acts):
                if number == drained:
                    machine.drain()
                machine.do(name, drawn)
        finally:
            machine.teardown()

    for number in range(examples):
        (example if seed is None else hypothesis.seed(2 * (seed + number) + kind.secure)(example))()
