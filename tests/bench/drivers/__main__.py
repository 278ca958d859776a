"""`python -m tests.bench.drivers PAGE DIR`: the plots again, from the tables in a page of measurements."""

import sys
from pathlib import Path

from tests.bench import report
from tests.bench.drivers.plots import plots
from tests.bench.drivers.table import rows_of

if __name__ == "__main__":
    for plot in plots(rows_of(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        report.write_plot(plot, Path(sys.argv[2]))
