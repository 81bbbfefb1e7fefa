"""What can be typed, configured or scraped is written down, and what is written down exists.

Commands stand in README.md or ARCHITECTURE.md. A configuration key may also stand in the
commented `switch/citycard.toml`, which every operator gets, as long as the README names it.
Metrics have their table in ops/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from switch.cli import app
from switch.config import MAIN_FILE, Config
from switch.metrics_catalogue import CATALOGUE, Metric

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "ARCHITECTURE.md"]
SHIPPED = ROOT / "switch" / MAIN_FILE
OPERATIONS = [
    path
    for path in sorted((ROOT / "ops").rglob("*"))
    if path.suffix in {".md", ".yml", ".yaml", ".json"}
]
_METRIC = re.compile(r"(?<![\w:./-])citycard_[a-z_]+(?![\w:./-])")
_SERIES_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def text_of(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())


def commands() -> Iterator[str]:
    for name in app:
        if name.startswith("-"):
            continue
        inner = [word for word in app[name] if not word.startswith("-")]
        yield from (f"{name} {word}" for word in inner) if inner else [name]


def config_keys(table: Mapping[str, object], path: str = "") -> Iterator[str]:
    for name, value in table.items():
        match value:
            case dict():
                yield from config_keys(value, f"{path}{name}.")
            case [dict() as first, *_]:
                yield from config_keys(first, f"{path}{name}.")
            case _:
                yield f"{path}{name}"


def metric_row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.type} | {labels} | {metric.help} |"


def test_every_command_is_documented() -> None:
    text = text_of(DOCUMENTS)
    assert [each for each in commands() if not re.search(rf"citycard {each}\b", text)] == []


def test_every_command_that_is_documented_exists() -> None:
    known = {command.split()[0] for command in commands()}
    named = re.findall(r"(?:^\s*(?:\$ )?|`)citycard ([a-z-]+)", text_of(DOCUMENTS), re.MULTILINE)
    assert set(named) <= known


def test_every_configuration_key_is_documented() -> None:
    assert MAIN_FILE in text_of([README])
    text = text_of([*DOCUMENTS, SHIPPED])
    keys = config_keys(msgspec.to_builtins(Config()))
    assert [key for key in keys if not re.search(rf"\b{key.rpartition('.')[2]}\b", text)] == []


def test_every_metric_has_its_row_in_the_operations_table() -> None:
    lines = (ROOT / "ops" / "metrics.md").read_text(encoding="utf-8").splitlines()
    written = [line for line in lines if line.startswith("| `citycard_")]
    assert written == [metric_row(metric) for metric in CATALOGUE]


@pytest.mark.parametrize("path", OPERATIONS, ids=lambda path: path.name)
def test_operations_name_no_metric_that_does_not_exist(path: Path) -> None:
    known = {metric.name for metric in CATALOGUE}
    named = set(_METRIC.findall(path.read_text(encoding="utf-8")))
    assert {name for name in named if _SERIES_SUFFIX.sub("", name) not in known} <= known
