"""What is wrong with a request, as an HTTP error with one sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from fastapi import HTTPException

from medical_gans.errors import user_message

logger = logging.getLogger(__name__)


def refuse(status: int, sentence: str) -> NoReturn:
    """Answer a request with an error.

    Raises:
        HTTPException: always.
    """
    raise HTTPException(status, sentence)


@contextmanager
def http_errors() -> Iterator[None]:
    """Turn what a user can mend into HTTP 422, and anything else into HTTP 500 with its traceback in the log.

    MONAI Label would answer all of it with "Internal Server Error".

    Raises:
        HTTPException: in place of any other exception.
    """
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:
        sentence = user_message(error) or getattr(error, "msg", None)  # MONAILabelException has msg
        if sentence is None:
            logger.exception("A request failed unexpectedly")
            refuse(500, f"Unexpected {type(error).__name__}: {error}. The server's log has the details.")
        logger.warning("A request is refused: %s", sentence)
        raise HTTPException(422, str(sentence)) from error
