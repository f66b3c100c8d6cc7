"""Watches a fleet: window by window, findings become incidents, and incidents become pages and messages."""
