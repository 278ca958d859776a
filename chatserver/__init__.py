"""A chat and long-poll server that slow clients cannot hurt."""

__version__ = "0.1.0"
