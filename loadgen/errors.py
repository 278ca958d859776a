"""Trio wraps each error that leaves a nursery in a group; these functions unwrap it."""


def first(error: BaseException) -> BaseException:
    """The first error of a group that is no group itself; of what is no group, itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
