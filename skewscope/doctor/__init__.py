"""What of this machine and its surroundings skewscope can use: one question a file, asked by `skewscope doctor`."""

from .answer import STATES, Answer

__all__ = ["STATES", "Answer"]
