"""report.html: the results of a command in one file, to mail, archive and print.

Owns: everything about how the page looks. It is built from the `Report` alone, has no script and loads nothing. It is
built from elements, not from text, so that no text from a server can become markup.
"""
