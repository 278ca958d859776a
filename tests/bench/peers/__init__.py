"""The peers that ratios are taken against: each a process of its own, at the same pace and with the same bytes.

A peer prints `listening on http://HOST:PORT`, takes one command a line from standard input, and answers each with
one line when it is done.
"""
