"""The Python client and the terminal client."""
