"""The personas: each file of this package whose name has no leading underscore is a family of them.

Owns: the registry. A subclass of `Client` with `@persona` in such a file appears in `loadgen list`, `--mix` and
`--kind`; a file elsewhere is given with `--persona`.
"""

import importlib.util
import pkgutil
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, TypeVar

from loadgen.clients.client import Client
from loadgen.net.target import UsageError

P = TypeVar("P", bound=type[Client])
_registry: dict[str, type[Client]] = {}
_loaded: set[Path] = set()  # files from outside

#: Where a word begins within the name of a class: SlowHead is slow-head, and Phone2G is phone-2g.
_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z0-9])")


def persona(cls: P) -> P:
    """Register a persona, under the name of its class in lower case with hyphens unless it has a `name`."""
    if "name" not in vars(cls):
        cls.name = _WORD.sub("-", cls.__name__).lower()
    if cls.name in _registry:
        raise ValueError(f"two personas are called {cls.name!r}: {_registry[cls.name].__module__}, {cls.__module__}")
    _registry[cls.name] = cls
    return cls


def load(file: str) -> None:
    """Load the personas of a file outside this package, once."""
    path = Path(file).resolve()
    if path in _loaded:
        return
    spec = importlib.util.spec_from_file_location(f"loadgen_persona_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UsageError(f"--persona: {file} is no Python file")
    before = len(registry())  # those of this package come first, so that the file is blamed for a name that is taken
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except (Exception, SystemExit) as error:  # noqa: BLE001  another program's error, or its end, which would be ours
        raise UsageError(f"--persona: {file}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    if len(_registry) == before:
        raise UsageError(f"--persona: {file} has no class with @persona")
    _loaded.add(path)


def registry() -> Mapping[str, type[Client]]:
    """Every persona by name, in alphabetical order."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}")
    import_module("loadgen.protocols")  # each protocol brings personas of its own
    return dict(sorted(_registry.items()))  # imports among them spoil the alphabetical order


def summary(cls: type[Client]) -> str:
    """The first line of the persona's docstring: what `loadgen list` prints."""
    return (cls.__doc__ or "").strip().partition("\n")[0]
