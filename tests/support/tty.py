"""A terminal in memory, for what looks different on one."""

import io


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True
