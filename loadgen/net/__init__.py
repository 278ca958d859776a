"""Connections to the server as a client sees them: its address, sockets, TLS, one connection, what comes on it."""
