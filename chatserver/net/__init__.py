"""Sockets, readiness and time. Knows no HTTP and nothing of chat."""
