"""Sans-IO protocols: bytes in, events out. No trio, no socket, no clock."""
