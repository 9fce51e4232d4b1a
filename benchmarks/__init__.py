"""Benchmarks of diskless against its peers: `python -m benchmarks` runs them all, `--check` only whether they hold."""
