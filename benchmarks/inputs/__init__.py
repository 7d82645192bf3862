"""Data sets that the benchmarks write."""
