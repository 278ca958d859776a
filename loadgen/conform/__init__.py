"""`loadgen conform`: RFC 6455 case by case, against any server that echoes.

A case is one declaration (`loadgen/cases/websocket.py`). One player plays them all, a few at a time, and
one function judges what the server sent. `suite.play` is the entry point.
"""
