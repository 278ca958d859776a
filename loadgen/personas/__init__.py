"""The personas: each file of this package that does not begin with an underscore is one.

Owns: the registry. A file defines one subclass of `Client` decorated with `@persona`; dropping it here is all that
it takes to appear in `loadgen list`, `--mix` and `--kind`.
"""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TypeVar

from loadgen.client import Client

P = TypeVar("P", bound=type[Client])
_registry: dict[str, type[Client]] = {}


def persona(cls: P) -> P:
    """Register a persona under its name."""
    if cls.name in _registry:
        raise ValueError(f"two personas are called {cls.name!r}: {_registry[cls.name].__module__}, {cls.__module__}")
    _registry[cls.name] = cls
    return cls


def registry() -> Mapping[str, type[Client]]:
    """Every persona by name, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}")
    import_module("loadgen.protocols")  # each has its own speakers
    return MappingProxyType(dict(sorted(_registry.items())))  # one may have imported another before its turn


def summary(cls: type[Client]) -> str:
    """The first line of the persona's docstring: what `loadgen list` prints."""
    return (cls.__doc__ or "").strip().partition("\n")[0]
