"""The log: JSON lines (or a readable form on a terminal) on stderr, without card numbers.

Every value, key and traceback goes through one processor that masks each run of 13 or more
digits, last before rendering, so that no call site can forget it. It fails closed: what
cannot be shown safely is replaced by its type. The standard library's log records, uncaught
exceptions and exceptions that nobody could raise end in the same stream.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping, MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO, get_args

import msgspec
import structlog

from protocols.card_number import mask_digit_runs

Format = Literal["json", "console", "auto"]
Level = Literal["debug", "info", "warning", "error"]

TEXT_CHARACTERS_MAX = 8_192
"""A longer text is cut: a log line is read by people and shipped by programs with limits."""
DEPTH_MAX = 6
ITEMS_MAX = 100

_DIGITS_MIN = 13
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
EventDict = MutableMapping[str, Any]


def masked(value: object, depth: int = 0) -> Any:
    """The value as plain texts, numbers, lists and tables in which no card number shows.

    Never raises: an object that cannot be shown becomes `[TYPE not shown]`.
    """
    try:
        return _masked(value, depth)
    except Exception:  # noqa: BLE001 - any object may come here, and its repr may raise anything
        return f"[{masked_text(type(value).__name__)} not shown]"


def masked_text(text: str) -> str:
    """The text without control characters, with long digit runs masked, cut to its limit.

    Line breaks and tabs stay; the renderers escape them.
    """
    shown = mask_digit_runs(_CONTROL.sub(" ", text))
    return shown if len(shown) <= TEXT_CHARACTERS_MAX else shown[:TEXT_CHARACTERS_MAX] + "…"


def _masked(value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return masked_text(str.__str__(value))
    if isinstance(value, int | float):
        text = repr(value + 0)
        return masked_text(text) if len(text) >= _DIGITS_MIN else value + 0
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if depth >= DEPTH_MAX:
        return f"[{type(value).__name__} nested too deep]"
    if isinstance(value, Mapping):
        items = list(value.items())[:ITEMS_MAX]
        return {_key(key): masked(item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item, depth + 1) for item in list(value)[:ITEMS_MAX]]
    if isinstance(value, BaseException):
        return masked_text(f"{type(value).__name__}: {value}")
    return masked_text(repr(value))


def _key(key: object) -> str:
    shown = masked(key)
    return shown if isinstance(shown, str) else masked_text(str(shown))


def _format_exception(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` by the text of its traceback; local variables are never shown."""
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if isinstance(exc_info, tuple) and exc_info[0] is not None:
        try:
            event["exception"] = "".join(traceback.format_exception(*exc_info, limit=-30)).rstrip()
        except Exception:  # noqa: BLE001 - an exception whose own text raises
            event["exception"] = "[traceback not shown]"
    return event


def _mask_event(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {_key(key): masked(value) for key, value in event.items()}


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    ordered = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return msgspec.json.encode(ordered | dict(event)).decode()


def _render_console(_logger: object, _method: str, event: EventDict) -> str:
    timestamp = event.pop("timestamp", "")
    level = str(event.pop("level", ""))
    text = _one_line(event.pop("event", ""))
    exception = event.pop("exception", "")
    pairs = " ".join(f"{_one_line(name)}={_one_line(value)}" for name, value in event.items())
    line = f"{timestamp} {level:<8} {text}  {pairs}".rstrip()
    # a second net: two values beside one another may read as one number
    return mask_digit_runs(line) + (f"\n{exception}" if exception else "")


def _one_line(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text.replace("\n", "\\n").replace("\t", " ")


_SHARED: list[Callable[..., Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


FORMAT_VARIABLE = "CITYCARD_LOG_FORMAT"
LEVEL_VARIABLE = "CITYCARD_LOG_LEVEL"


def hand_down(format: Format, level: Level) -> None:
    """Make this the default of `configure` here and in processes started from here."""
    os.environ[FORMAT_VARIABLE] = format
    os.environ[LEVEL_VARIABLE] = level


def configure(
    format: Format | None = None, level: Level | None = None, stream: TextIO | None = None
) -> None:
    """Send everything to `stream` (stderr): structlog, logging, uncaught exceptions, warnings.

    `auto` is the readable form on a terminal and JSON lines elsewhere. What is not given is
    taken from the environment (see `hand_down`), else `auto` and `info`. May be called again.
    """
    stream = sys.stderr if stream is None else stream
    format = format or _one_of(get_args(Format), os.environ.get(FORMAT_VARIABLE), "auto")
    level = level or _one_of(get_args(Level), os.environ.get(LEVEL_VARIABLE), "info")
    readable = format == "console" or (format == "auto" and stream.isatty())
    formatter = _FailsClosed(
        foreign_pre_chain=_SHARED,
        processors=[
            _drop_record,
            _format_exception,
            _mask_event,
            _render_console if readable else _render_json,
        ],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # a failing log call prints the offending arguments otherwise
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_unraisable
    threading.excepthook = _log_thread


def _one_of(known: tuple[str, ...], said: str | None, otherwise: str) -> Any:
    return said if said in known else otherwise


def get(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a room, such as `get("net.iso")`; events are short, values are keywords."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name, room=name)
    return logger


class _FailsClosed(structlog.stdlib.ProcessorFormatter):
    """A record that cannot be rendered leaves a line that says so, without its content."""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except Exception:  # noqa: BLE001 - arguments of any kind that do not fit their text
            event = {"level": record.levelname.lower(), "event": "a log line could not be rendered"}
            return _render_json(None, "", {**event, "room": masked_text(record.name)})


def _drop_record(_logger: object, _method: str, event: EventDict) -> EventDict:
    record = event.pop("_record", None)
    event.pop("_from_structlog", None)
    if "room" not in event and record is not None:
        event["room"] = record.name
    return event


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get("process").critical("uncaught exception", exc_info=(kind, error, trace))


def _log_unraisable(unraisable: Any) -> None:
    error = unraisable.exc_value
    exc_info = (unraisable.exc_type, error, unraisable.exc_traceback) if error else None
    where = type(unraisable.object).__name__
    get("process").error("exception could not be raised", where=where, exc_info=exc_info)


def _log_thread(thread: threading.ExceptHookArgs) -> None:
    if thread.exc_value is None:
        return
    exc_info = (thread.exc_type, thread.exc_value, thread.exc_traceback)
    get("process").error("uncaught exception in a thread", exc_info=exc_info)


class Throttle:
    """At most `count_max` log lines per key and interval; what is over is counted.

    For errors that a peer can cause as often as it likes. Keys are bounded: the one that was
    used longest ago is forgotten first. The time comes from outside (monotonic nanoseconds).
    """

    def __init__(
        self, count_max: int = 5, interval_seconds: int = 60, keys_max: int = 1_024
    ) -> None:
        self._count_max = count_max
        self._interval_ns = interval_seconds * 1_000_000_000
        self._keys_max = keys_max
        self._seen: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def admit(self, key: str, now_ns: int) -> int | None:
        """None: keep silent. Otherwise log, and say how many were suppressed since last time."""
        started_ns, count = self._seen.pop(key, (now_ns, 0))
        suppressed = 0
        if now_ns - started_ns >= self._interval_ns:
            suppressed = max(0, count - self._count_max)
            started_ns, count = now_ns, 0
        self._seen[key] = (started_ns, count + 1)
        if len(self._seen) > self._keys_max:
            self._seen.popitem(last=False)
        return suppressed if count < self._count_max else None

    def __len__(self) -> int:
        return len(self._seen)
