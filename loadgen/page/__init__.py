"""report.html: one file that tells what a command found, to be mailed, archived and printed.

Owns: everything about how the page looks. It is built from the `Report` alone; it has no script, loads nothing, and
is made of elements rather than text, so that nothing a server said can become markup.
"""

from loadgen.page.document import page_of

__all__ = ["page_of"]
