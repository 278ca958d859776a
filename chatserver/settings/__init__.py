"""Every limit once: its flag, its default, its bounds, its reason; where values come from; how they are shown."""
