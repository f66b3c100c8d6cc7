"""One file, one collector: what it can read of a node, as samples of the metrics in `skewscope.metrics`."""
