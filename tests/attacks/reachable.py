"""The length of every container that can be reached from a server, by place.

Owns: the walk. May not: know what the places mean. The garbage collector's list is not enough, since it does not track
the structs that exist by the thousand.

    containers({"server": server}) -> {"Registry._empty": 3, "Room.members": 17, ...}

A place is a class and an attribute, or what a function closes over; all containers at one place are added up.
"""

import gc
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import msgspec

_CACHE = type(lru_cache(1)(int))
_CONTAINERS = (dict, list, set, frozenset, deque, tuple)
_ATOMS = (str, bytes, int, float, type(None), type, ModuleType)
#: Modules whose objects are not followed. Trio's would lead to the test itself.
_OTHERS = ("trio", "structlog", "logging", "socket", "ssl", "threading", "_thread", "tests", "_pytest", "unittest")


def containers(roots: Mapping[str, object], *, beyond: tuple[str, ...] = ()) -> Counter[str]:
    """The lengths by place. `beyond`: modules of the server whose objects are not walked through.

    A cache of functools may be no longer than its bound, and is not walked through.
    """
    found: Counter[str] = Counter()
    seen: dict[int, object] = {}  # the objects too, so that no id is used again
    waiting = deque[tuple[str, Any]](roots.items())
    while waiting:
        place, each = waiting.popleft()
        if id(each) in seen or isinstance(each, _ATOMS) or type(each).__module__.startswith((*_OTHERS, *beyond)):
            continue
        seen[id(each)] = each
        if isinstance(each, _CACHE):
            most, size = each.cache_info()[2:]
            assert size <= (8 if most is None else most), f"{place} is a cache without a bound"
            continue
        if isinstance(each, (*_CONTAINERS, array, bytearray)):
            found[place] += len(each)
        waiting.extend(_inside(place, each))
    return found


def module_globals(modules: Iterable[ModuleType]) -> dict[str, object]:
    """The globals of these modules, by place."""
    return {f"{module.__name__}.{name}": each for module in modules for name, each in vars(module).items()}


def _inside(place: str, each: Any) -> Iterator[tuple[str, object]]:
    """The objects that an object refers to, with their places."""
    kind = type(each)
    match each:
        case dict():
            yield from ((f"{place}[key]", key) for key in list(each))
            yield from ((f"{place}[value]", value) for value in list(each.values()))
        case list() | tuple() | set() | frozenset() | deque():
            yield from ((f"{place}[*]", item) for item in list(each))
        case FunctionType():
            if each.__module__.startswith("chatserver"):
                yield from ((each.__qualname__, cell) for cell in gc.get_referents(each.__closure__))
        case MethodType():
            yield from ((place, part) for part in (each.__self__, each.__func__))
        case partial():
            yield from ((place, part) for part in (each.func, each.args, each.keywords))
        case CellType():
            yield from ((place, content) for content in gc.get_referents(each))
    for name in _attributes(each):
        yield f"{kind.__qualname__}.{name}", getattr(each, name, None)


def _attributes(each: object) -> Iterable[str]:
    if isinstance(each, msgspec.Struct):
        return each.__struct_fields__
    names = set(getattr(each, "__dict__", ()))
    for kind in type(each).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update((slots,) if isinstance(slots, str) else slots)
    return names
