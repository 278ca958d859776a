"""Settings: each limit's flag, default, bounds and reason; the sources of values; how they are shown."""
