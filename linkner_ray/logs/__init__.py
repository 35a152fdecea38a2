"""What a run says on the console, and where the rest goes.

As text, the console has our own lines, those of workers as well, and errors. All else that Ray,
vLLM and transformers say goes to files in the folder of Ray's session, which is named once.
What Ray logs as an error it raises, too, and the command ends with that.

As JSON, each line on standard error is one object, of the driver and of every worker. It has `time`
(UTC), `level`, `logger`, `message`, `host` and `pid`, then whatever a call gave as `extra`, and
`error` with the traceback. An event that machines are to follow has the field `event`. Lines of
Ray's core, which is not Python, have `asctime`, `levelname` and `message` instead.
"""

import faulthandler
import json
import logging
import os
import socket
import sys
import threading
from datetime import UTC, datetime
from importlib.resources import files
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from linkner_ray.errors import hide_secrets

if TYPE_CHECKING:  # every process of Ray imports this module before anything else
    from linkner_ray.config import LoggingConfig

logger = logging.getLogger(__name__)

H = TypeVar("H", bound=logging.Handler)

TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

_OF_TRAINING = r"|INFO linkner_ray\.training\b"

SHOWN_OF_WORKERS = (
    r"^\d+-\d+-\d+ \d+:\d+:\d+,\d+ "
    rf"((WARNING|ERROR|CRITICAL) linkner_ray\b{_OF_TRAINING})"
    r"|^A worker died or was killed "
    r"|Workers \(tasks / actors\) killed due to memory pressure"
)
"""What `TEXT_FORMAT` makes of a warning of ours and of the progress of a training, and what Ray
says of workers that it replaces."""

QUIET = threading.Event()
"""Set while a command is to say nothing but what went wrong."""

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""Attributes of every record; what else one has was given as `extra`."""

_HOST = socket.gethostname()


class TextFormatter(logging.Formatter):
    """A record as text, without what is secret in an address."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        return hide_secrets(super().format(record))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "host": _HOST,
            "pid": record.process,
        }
        entry |= {
            name: value
            for name, value in vars(record).items()
            if name not in _OWN and not name.startswith("_")  # Ray's
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        entry = {name: hide_secrets(v) if isinstance(v, str) else v for name, v in entry.items()}
        return json.dumps(entry, ensure_ascii=False, default=lambda v: hide_secrets(str(v)))


def set_up_logs(config: "LoggingConfig") -> None:
    """Have this process, and the workers it will start, log as the config says.

    To be called before Ray is imported, which reads its environment once.
    """
    environment = {
        "RAY_DATA_LOGGING_CONFIG": str(files("linkner_ray") / "ray_data_logging.yaml"),
        "RAY_DISABLE_WORKER_LOG_PREFIX": "1",  # would write a name before a line
        "RAY_COLOR_PREFIX": "0",
    }
    if config.format == "text":
        shown = SHOWN_OF_WORKERS.replace(_OF_TRAINING, "") if QUIET.is_set() else SHOWN_OF_WORKERS
        # For all of it: RAY_DEDUP_LOGS=0.
        environment |= {
            "RAY_DEDUP_LOGS_ALLOW_REGEX": shown,
            "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
        }
        os.environ |= environment | dict(os.environ)
        _log_as_text()
        return
    os.environ |= environment | {
        "RAY_DEDUP_LOGS": "0",  # would write a note behind a line
        "RAY_BACKEND_LOG_JSON": "1",  # of Ray's C++, with keys of its own
        "VLLM_CONFIGURE_LOGGING": "0",  # its records then come to our handler
    }
    log_as_json()


def log_to_console() -> None:
    """Have this process write its warnings as text, unless it logs already."""
    console = logging.StreamHandler()
    console.setFormatter(TextFormatter(TEXT_FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[console])


def _log_as_text() -> None:
    """Keep from the console what is not for it, if this process has a plain one."""
    log_to_console()
    console = _find(logging.StreamHandler)
    if console is None or _is_for_console in console.filters:
        return
    console.addFilter(_is_for_console)
    late = logging.StreamHandler(sys.stderr)
    late.setFormatter(TextFormatter(TEXT_FORMAT))
    # Kept until Ray has a folder for it; without one, it is shown at the end.
    held = MemoryHandler(1000, flushLevel=logging.CRITICAL + 1, target=late)
    held.setLevel(logging.WARNING)
    held.addFilter(lambda record: not _is_for_console(record))
    logging.getLogger().addHandler(held)
    logging.captureWarnings(True)


def log_as_json() -> None:
    """Have this process log as JSON: warnings, and of our own what is worth a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(_is_for_machines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    level = logging.WARNING if QUIET.is_set() else logging.INFO
    logging.getLogger("linkner_ray").setLevel(level)
    logging.captureWarnings(True)
    adopt("ray")


def log_as_worker() -> None:
    """Have this process, a worker's, mark our lines as text; what else it writes stays as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter(TEXT_FORMAT))
    own = logging.getLogger("linkner_ray")
    own.handlers[:] = [handler]
    own.setLevel(logging.INFO)
    own.propagate = False  # Ray Train gives the root a handler of its own


def adopt(name: str) -> None:
    """After `set_up_logs`, a library that has been imported writes its records where we do."""
    console = _find(logging.StreamHandler)
    if is_json() or (console is not None and _is_for_console in console.filters):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


def keep_in(folder: Path) -> None:
    """As text: a file in Ray's folder has what is not for the console, which says where.

    Also what is written to descriptor 2 past Python: the lines of Ray's C++ in this process.
    """
    console, held = _find(logging.StreamHandler), _find(MemoryHandler)
    if console is None or held is None:
        return
    path = folder / f"linkner-{os.getpid()}.log"
    try:
        file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        logger.warning("what Ray says is shown at the end, since its folder is closed: %s", error)
        return
    file.setFormatter(TextFormatter(TEXT_FORMAT))
    file.setLevel(logging.WARNING)  # Ray Data has a file for all of its own
    held.setTarget(file)
    held.close()
    root = logging.getLogger()
    root.removeHandler(held)
    root.addHandler(file)
    sys.stderr.flush()
    encoding = sys.stderr.encoding
    sys.stderr = os.fdopen(
        os.dup(2), "w", buffering=1, encoding=encoding, errors="backslashreplace"
    )
    console.setStream(sys.stderr)
    with path.open("ab") as past_python:
        os.dup2(past_python.fileno(), 2)
    faulthandler.enable(sys.stderr, all_threads=False)  # which Ray has write to descriptor 2
    sys.stderr.write(f"linkner: Ray's and vLLM's own lines: {folder}\n")


def _find(kind: type[H]) -> H | None:
    """The root's handler of a type, not of one below it, which others have put there."""
    return next((h for h in logging.getLogger().handlers if type(h) is kind), None)


def _is_for_console(record: logging.LogRecord) -> bool:
    library = record.name.partition(".")[0]
    return library == "linkner_ray" or (library != "ray" and record.levelno >= logging.ERROR)


def _is_for_machines(record: logging.LogRecord) -> bool:
    if record.name.partition(".")[0] == "linkner_ray":
        return True
    # Ray Data hides from consoles what it raises as well.
    return record.levelno >= logging.WARNING and not getattr(record, "hide", False)


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
        sys.stderr.write(f"linkner: {hide_secrets(sentence)}\n")
    sys.stderr.flush()
