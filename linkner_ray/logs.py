"""Logs as JSON: one object a line on standard error, of the driver and of every worker.

Each has `time` (UTC), `level`, `logger`, `message`, `host` and `pid`, then whatever a call gave as
`extra`, and `error` with the traceback. An event that machines are to follow has the field `event`.
Lines of Ray's core, which is not Python, have `asctime`, `levelname` and `message` instead.
"""

import json
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every command imports this module, and not every one reads a config
    from linkner_ray.config import LoggingConfig

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""Attributes of every record; what else one has was given as `extra`."""

_HOST = socket.gethostname()


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "host": _HOST,
            "pid": record.process,
        }
        facts |= {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and not name.startswith("_")  # Ray's
        }
        if record.exc_info:
            facts["error"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False, default=str)


def set_up_logs(config: "LoggingConfig") -> None:
    """Have this process, and the workers it will start, log as the config says.

    To be called before Ray is imported, which reads its environment once.
    """
    if config.format == "text":
        return
    os.environ |= {
        "RAY_DEDUP_LOGS": "0",  # would write a note behind a line
        "RAY_DISABLE_WORKER_LOG_PREFIX": "1",  # would write a name before it
        "RAY_COLOR_PREFIX": "0",
        "RAY_BACKEND_LOG_JSON": "1",  # of Ray's C++, with keys of its own
        "RAY_DATA_LOGGING_CONFIG": str(files("linkner_ray") / "ray_data_logging_json.yaml"),
        "VLLM_CONFIGURE_LOGGING": "0",  # its records then come to our handler
    }
    log_as_json()


def log_as_json() -> None:
    """Have this process log as JSON: warnings, and of our own what is worth a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("linkner_ray").setLevel(logging.INFO)
    ray_logger = logging.getLogger("ray")
    ray_logger.handlers.clear()
    ray_logger.propagate = True
    logging.captureWarnings(True)


def is_json() -> bool:
    """Whether this process logs as JSON."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers)


def say_last(sentence: str, *, exit_code: int) -> None:
    """Tell why a process ends: an event where logs are JSON, else a line for people."""
    if is_json():
        logging.getLogger("linkner_ray").error(
            sentence, extra={"event": "end", "exit_code": exit_code}
        )
    else:
        sys.stderr.write(f"linkner: {sentence}\n")
    sys.stderr.flush()
