"""The error of a call that must fail. In a loop, a failure shows the arguments, as `pytest.raises` would not."""

from collections.abc import Callable
from typing import TypeVar

Error = TypeVar("Error", bound=Exception)


def error_of(kind: type[Error], act: Callable[..., object], *arguments: object) -> Error:
    try:
        found = act(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"{arguments!r:.500} gave {found!r:.500}")
