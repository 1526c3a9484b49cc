"""Structured logs: one JSON object a line on standard output, which ``up`` sends to a file of the state directory."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(process: str) -> None:
    """Send structlog's and the standard library's records (uvicorn's, say) to standard output as JSON lines."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(),  # a line in one write; print's end of line may come after another thread's
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for each request
    logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # so would this one, and one for each failure that we report
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a real file here, never a bare TextIO
