"""Measurements that `make bench` takes and writes into BENCHMARKS.md. Never part of a test run."""
