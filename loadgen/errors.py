"""Nurseries wrap what ends them in groups, whoever raised it; here is the way back."""


def first(error: BaseException) -> BaseException:
    """The first error of a group that is no group itself; of what is no group, itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
