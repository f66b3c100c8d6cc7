"""Metrics over time, as detectors read them: series cut into windows, peers, persistence, and what a cause costs."""
