from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocols.card_number import CardNumber
from switch import logs

LONG_RUN = re.compile(r"\d{13}")
CARD = "6222021234567890123"


pytestmark = pytest.mark.usefixtures("process_as_before")


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("json", "debug", stream)
    return stream


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError(CARD)


class Telling:
    def __repr__(self) -> str:
        return f"Telling({CARD})"


digits = st.text("0123456789", min_size=13, max_size=30)
leaves = (
    digits
    | st.text(max_size=8)
    | st.integers()
    | st.floats()
    | st.binary(max_size=30)
    | st.booleans()
    | st.none()
    | st.builds("{}{}{}".format, st.text(max_size=3), digits, st.text(max_size=3))
    | digits.map(int)
    | digits.map(str.encode)
    | digits.map(ValueError)
    | st.builds(Unprintable)
    | st.builds(Telling)
    | st.just(CardNumber(CARD))
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(digits | st.text(max_size=3) | digits.map(int), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("format", ["json", "console"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(event=st.text(max_size=5) | digits, bound=values, value=values)
def test_no_log_call_prints_a_card_number(
    format: logs.Format, event: str, bound: object, value: object
) -> None:
    stream = io.StringIO()
    logs.configure(format, "debug", stream)
    logs.get("test").bind(bound=bound).info(event, value=value, **{CARD: value})
    logging.getLogger("library").warning("%s %r", event, value, extra={"more": value})
    try:
        raise ValueError(value)
    except ValueError:
        logs.get("test").exception(event, value=value)
    written = stream.getvalue()
    assert written.count("\n") >= 3
    assert not LONG_RUN.search(written)
    if format == "json":
        assert len(lines(stream)) == 3


def test_a_line_says_when_what_and_where(stream: io.StringIO) -> None:
    logs.get("net.iso").info("frame refused", link="retail-1", offset=3)
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", str(line.pop("timestamp")))
    assert line == {
        "level": "info",
        "event": "frame refused",
        "room": "net.iso",
        "link": "retail-1",
        "offset": 3,
    }


def test_what_cannot_be_shown_is_replaced(stream: io.StringIO) -> None:
    logs.get("test").info(
        "odd", bad=Unprintable(), octets=b"123", card=CardNumber(CARD), deep=[[[[[[[1]]]]]]]
    )
    (line,) = lines(stream)
    assert line["bad"] == "[Unprintable not shown]"
    assert line["octets"] == "[3 bytes]"
    assert line["card"] == "••0123"
    assert "nested too deep" in json.dumps(line["deep"])


def test_a_text_is_cut_and_a_table_bounded(stream: io.StringIO) -> None:
    logs.get("test").info("long", text="x" * 100_000, table=dict.fromkeys(range(1_000)))
    (line,) = lines(stream)
    assert len(str(line["text"])) == logs.TEXT_CHARACTERS_MAX + 1
    assert len(line["table"]) == logs.ITEMS_MAX  # type: ignore[arg-type]


def test_one_event_is_one_line_whatever_it_contains(stream: io.StringIO) -> None:
    logs.get("test").info("a\nb\r\x1b[31m", value="c\nd\x85")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_the_console_form_is_one_line_and_masks_across_values() -> None:
    stream = io.StringIO()
    logs.configure("console", "info", stream)
    logs.get("test").info("a\nb", one="1234567", two="8901234")
    assert stream.getvalue().count("\n") == 1
    assert "one=1234567 two=8901234" in stream.getvalue()


def test_library_records_are_routed_and_a_bad_one_is_named(stream: io.StringIO) -> None:
    logging.getLogger("asyncpg").warning("lost %s", "connection")
    logging.getLogger("asyncpg").warning("lost %d", CARD)
    good, bad = lines(stream)
    assert (good["event"], good["room"]) == ("lost connection", "asyncpg")
    assert bad["event"] == "a log line could not be rendered"


def test_the_level_is_kept() -> None:
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    logs.get("test").info("quiet")
    logs.get("test").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_exceptions_that_nobody_caught_are_logged_without_their_digits() -> None:
    script = f"""
import threading
from switch import logs
logs.configure("json")
class Late:
    def __del__(self):
        raise ValueError("{CARD}")
Late()
thread = threading.Thread(target=int, args=("{CARD}x",))
thread.start(); thread.join()
raise RuntimeError("{CARD}")
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 1
    assert not LONG_RUN.search(run.stdout + run.stderr)
    assert [json.loads(line)["event"] for line in run.stderr.splitlines()] == [
        "exception could not be raised",
        "uncaught exception in a thread",
        "uncaught exception",
    ]


def test_what_is_handed_down_is_the_default() -> None:
    logs.hand_down("console", "error")
    stream = io.StringIO()
    logs.configure(stream=stream)
    logs.get("test").warning("quiet")
    logs.get("test").error("loud")
    assert stream.getvalue().endswith("error    loud  room=test\n")
    assert stream.getvalue().count("\n") == 1


SECOND_NS = 1_000_000_000


def test_a_throttle_admits_n_per_interval_and_counts_the_rest() -> None:
    throttle = logs.Throttle(count_max=2, interval_seconds=10)
    assert [throttle.admit("a", n) for n in range(5)] == [0, 0, None, None, None]
    assert throttle.admit("b", 5) == 0
    assert throttle.admit("a", 10 * SECOND_NS) == 3
    assert throttle.admit("a", 10 * SECOND_NS) == 0
    assert throttle.admit("a", 10 * SECOND_NS) is None


def test_a_throttle_remembers_a_bounded_number_of_keys() -> None:
    throttle = logs.Throttle(keys_max=3)
    for n in range(100):
        throttle.admit(f"key-{n}", n)
    assert len(throttle) == 3
