"""Where settings come from: flags, the environment, a TOML file; merged into one `Settings`.

Owns: precedence (flag > environment > file > what this machine allows > default), conversion, and complaints that name
their source.
May not: hold a default or a bound; those are in fields.py.

    settings = load_settings({"port": "0"}, os.environ, toml_path=None)
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from chatserver.settings.fields import SPECS, TYPES, Settings, flag_name
from chatserver.settings.forms import LogFormat
from chatserver.settings.rooms import Guests, room_policies
from chatserver.settings.spec import ConfigError, read_file

ENVIRONMENT_PREFIX = "CHATSERVER_"
_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
#: The complaint about a value that does not convert, by type.
_COMPLAINTS: Mapping[Any, str] = {
    bool: "is neither true nor false",
    int: "is not a whole number",
    float: "is not a number",
    str: "is no text",
    LogFormat: f"is none of {', '.join(LogFormat)}",
    Guests: f"is none of {', '.join(Guests)}",
    tuple[str, ...]: "is not a list of texts",
}


def variable_name(field: str) -> str:
    """Return `CHATSERVER_HEAD_DEADLINE` for `head_deadline`."""
    return ENVIRONMENT_PREFIX + field.upper()


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], toml_path: Path | None,
    allowed: Callable[[int], Mapping[str, int]] = lambda workers: {},
) -> Settings:  # fmt: skip
    """Merge flag > environment > file > default. None means that a flag was not given.

    `allowed` returns what this machine allows that number of workers; a default that is higher becomes that.
    """
    found = _read_toml(toml_path) if toml_path is not None else {}
    found |= _read_environment(environ)
    for name, value in flags.items():
        if value is not None:
            found[name] = _convert(name, value)
    settings = Settings(**found)
    lower: dict[str, Any] = {
        name: min(most, getattr(settings, name))
        for name, most in allowed(settings.workers).items()
        if name not in found
    }
    return dataclasses.replace(settings, **lower)


def _read_toml(path: Path) -> dict[str, Any]:
    data = read_file("config", path)
    try:
        table = tomllib.loads(data.decode("utf-8-sig"))
        repr(table)  # no complaint could name a number in hex that has too many digits for that
    except (ValueError, RecursionError) as error:
        raise ConfigError("config", f"{path} is not TOML: {error}") from error
    found: dict[str, Any] = {}
    rooms = table.pop("rooms", None)
    if rooms is not None:
        found["rooms"] = room_policies(rooms, str(path))
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in SPECS:
            hint = _did_you_mean(name, flag_name, "rooms")
            raise ConfigError("config", f"{path} sets {key!r}, which is no setting{hint}")
        if name in found:
            raise ConfigError("config", f"{path} sets {flag_name(name)} twice")
        found[name] = _attributed(name, value, f" (from {path})")
    return found


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    fields = {variable_name(field): field for field in SPECS}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        is_link = _is_service_link(variable, environ)
        if variable in fields and not (is_link and "://" in text):  # CHATSERVER_PORT may be either
            found[fields[variable]] = _attributed(fields[variable], text, f" (from {variable})")
        elif variable.startswith(ENVIRONMENT_PREFIX) and not is_link:
            name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
            hint = _did_you_mean(name, variable_name)
            raise ConfigError("", f"the environment sets {variable}, which is no setting{hint}")
    return found


def _is_service_link(variable: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes made the variable for a Service that is named like us (NAME_SERVICE_HOST, NAME_PORT, ...)."""
    service = variable.partition("_SERVICE_" if "_SERVICE_" in variable else "_PORT")[0]
    return f"{service}_SERVICE_HOST" in environ


def _did_you_mean(name: str, written: Callable[[str], str], *others: str) -> str:
    near = difflib.get_close_matches(name, [*SPECS, *others], n=1)
    return f", did you mean {written(near[0])}?" if near else ""


def _attributed(name: str, value: object, source: str) -> object:
    """Convert and check `value`; a complaint names the variable or file that it came from."""
    try:
        converted = _convert(name, value)
        SPECS[name].check(flag_name(name), converted)
    except ConfigError as error:
        raise ConfigError(error.flag, error.message + source) from error
    return converted


def _convert(name: str, value: object) -> object:
    """Convert text (of a flag or variable) or a TOML value to the field's type; bounds are checked later."""
    kind = TYPES[name]
    try:
        converted = msgspec.convert(_read(kind, value.strip()) if isinstance(value, str) else value, kind)
    except ValueError:
        raise ConfigError(flag_name(name), f"{value!r} {_COMPLAINTS[kind]}") from None
    if not isinstance(converted, tuple):
        return converted
    texts = tuple(text.strip() for text in converted)
    if not all(texts):
        raise ConfigError(flag_name(name), "an entry is empty")
    return texts


def _read(kind: object, text: str) -> object:
    """Convert the text of a list, a switch or a number to the value that TOML would give."""
    text.encode()  # a ValueError if a variable is not UTF-8: workers get their settings as JSON
    if kind == tuple[str, ...]:
        return text.split(",") if text else []
    if kind is bool:
        return _SWITCH.get(text.lower(), text)
    if (kind is int or kind is float) and "_" not in text:  # Python would accept "1_0"
        return kind(text)
    return text
