"""Benchmarks, comparisons and studies, each a command: `python -m scripts.compare.mnist_table`."""
