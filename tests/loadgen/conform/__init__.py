"""Tests of `loadgen conform`."""
