"""`loadgen conform`: RFC 6455 case by case, against any server that echoes.

Owns: the package's surface, `play`. A case is one declaration (`framing`, `text`, `closing`, `limits`, `opening`); one
player plays them all, a few side by side, and one function judges what was heard.

    report = await play(Options(target=target.find("http://127.0.0.1:8000"), path="/echo"), CASES, Progress())
"""

from loadgen.conform.catalogue import CASES
from loadgen.conform.report import Options
from loadgen.conform.suite import play

__all__ = ["CASES", "Options", "play"]
