"""`chatserver doctor`: whether servers that run are well, and whether several of them are one chat.

Owns: what is asked of them, what is concluded from it, how it is told. May not: know anything of a server but its
public endpoints, over the client's own HTTP and WebSocket. `inquiry` asks each node about itself, `delivery` sends
messages from each to each, `findings` concludes, `report` prints.
"""
