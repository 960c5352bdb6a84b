"""The warnings that reading a file logs, caught so that they stand in the table beside what else is wrong."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ReaderWarnings(logging.Handler):
    """Keeps the warnings of each thread apart: a case is read by one thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: dict[int, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one warning."""
        self._texts.setdefault(threading.get_ident(), []).append(record.getMessage())

    def take(self) -> list[str]:
        """What this thread was warned of since it asked last, each once."""
        return list(dict.fromkeys(self._texts.pop(threading.get_ident(), [])))


@contextmanager
def caught_warnings() -> Iterator[ReaderWarnings]:
    """Catch what volseg.io logs inside the block; it goes nowhere else meanwhile."""
    logger = logging.getLogger("volseg.io")
    handler, propagates = ReaderWarnings(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)
