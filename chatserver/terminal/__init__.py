"""The terminal client, `chatserver chat`, and the requests of `chatserver admin`.

Owns: what a person types and sees. It is built on the library (`client/`), which knows nothing of it.
"""
