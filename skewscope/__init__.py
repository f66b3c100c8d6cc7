"""Says which rank, link, expert, stage or host makes a GPU job slow, what it costs and what to do about it."""

__version__ = "0.1.0"
