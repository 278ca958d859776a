"""The figures the server must reach, each measured against a bound: `make bench`."""
