"""The types of flags, with the names that `--help` gives to their values."""

from typing import Annotated

from cyclopts import Parameter

N = Annotated[int, Parameter(metavar="N")]
Pid = Annotated[int, Parameter(metavar="PID")]
Seconds = Annotated[float, Parameter(metavar="SECONDS")]
PerSecond = Annotated[float, Parameter(metavar="N")]
Share = Annotated[float, Parameter(metavar="SHARE")]
Name = Annotated[str, Parameter(metavar="NAME")]
Names = Annotated[str, Parameter(metavar="NAMES")]
Mix = Annotated[str, Parameter(metavar="NAME=SHARE,...")]
Place = Annotated[str, Parameter(metavar="PATH")]
File = Annotated[str, Parameter(metavar="FILE")]
Files = Annotated[tuple[str, ...], Parameter(metavar="FILE")]
Folder = Annotated[str, Parameter(metavar="DIR")]
