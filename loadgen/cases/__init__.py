"""Requests and frames that a server must answer, refuse or end, as data: for conformance runs and for attackers."""
