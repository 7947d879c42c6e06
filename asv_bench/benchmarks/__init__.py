"""The benchmarks that asv follows from commit to commit: a file per wing, as in the library."""
