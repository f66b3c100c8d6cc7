"""Runs beside each other: what changed from one to the next, and what grows with the number of ranks."""
