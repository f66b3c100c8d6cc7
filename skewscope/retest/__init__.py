"""Is a node as fast as its peers? Micro-benchmarks that run on it, and a judge that says pass, fail or unsure."""
