"""Peers, servers to start, one way to wait, fakes: what tests of several folders use. The rest is in its own folder."""
