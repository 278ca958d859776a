"""`chatserver doctor`: whether running servers are well, and whether several of them are one chat.

Owns: the checks, the conclusions and the report. May not: know anything of a server except its public endpoints, over
the client's own HTTP and WebSocket. `inquiry` asks each node about itself, `delivery` sends messages from each to each,
`findings` concludes, `report` prints.
"""
