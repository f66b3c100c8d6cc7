"""Messages on standard error, as text or as JSON lines."""

from __future__ import annotations

import json
import logging
import sys

LEVELS = {-1: logging.ERROR, 0: logging.INFO, 1: logging.DEBUG}


class JsonLines(logging.Formatter):
    """Formats one message as one JSON object: time, level, message, and traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        from datetime import UTC, datetime

        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = {"time": when, "level": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said)


def start(form: str, loudness: int) -> None:
    """Send the messages of skewscope to standard error; `loudness` -1 is errors only, 0 usual, 1 everything."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter("skewscope: %(message)s"))
    logger = logging.getLogger("skewscope")
    logger.handlers[:] = [handler]
    logger.setLevel(LEVELS[max(-1, min(1, loudness))])
    logger.propagate = False
