"""Alerting rules for Prometheus and its relatives, with their tests: from the rooms and from what `watch` exports."""
