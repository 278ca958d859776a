"""The same scenario against several servers in one run: ours and its peers, interleaved, with ratios.

Every figure comes from the experiments of `loadgen run` and `loadgen attack`, where it is defined, against a server
that was started fresh for it.
"""
