"""The same scenario against several servers in one run, ours beside peers, interleaved, with ratios.

Every figure comes from `loadgen run` and `loadgen attack`, each in a process of its own, against a server that was
started fresh for it. What a single figure means is said there; here it is put side by side.
"""
