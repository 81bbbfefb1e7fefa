"""A switch of real processes before a real Postgres, with cards on it and money on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from switch import config as configuration
from switch.app import ReadyState
from switch.demo import stage
from switch.demo.children import switch_serving
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import AuditReport, audit
from switch.standin.rows import Summary as Spooled
from switch.standin.spool import summarised
from switch.standin.spool_file import FILE_NAME

CONFIGURATION = """\
[server]
metrics_port = 0
drain_seconds = 5

[ledger]
connect_timeout_seconds = 2
{ledger}
[[links]]
name = "retail-1"
port = {port}
budget_ms = {budget_ms}
{link}
"""


class Staged(msgspec.Struct, frozen=True):
    """A ledger with cards on it, and the configuration of a switch before it."""

    url: str
    home: Path
    config_file: Path
    config: configuration.Config
    crowd: stage.Crowd

    @property
    def key_file(self) -> Path:
        return self.home / "card_number.key"

    def at(self, url: str) -> Staged:
        """The same ledger by another way."""
        return msgspec.structs.replace(self, url=url)

    def opening_minor(self) -> dict[int, int]:
        """What each card of the crowd began with, by index."""
        crowd = self.crowd
        poor = range(crowd.blocked, crowd.blocked + crowd.poor)
        return {
            index: stage.POOR_PURSE_MINOR
            if index in poor
            else stage.PURSE_MINOR[stage.tier_of(index)]
            for index in range(crowd.cards)
        }

    def spooled(self) -> Spooled:
        """What stand-in took and what became of it."""
        return summarised(self.home / FILE_NAME)

    @contextmanager
    def serving(
        self,
        *,
        workers: int = 2,
        backend: str = "asyncio",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[ReadyState]:
        """A running switch; `environment` is for its processes only."""
        with ExitStack() as running:
            with pytest.MonkeyPatch.context() as around:
                for name, value in environment.items():
                    around.setenv(name, value)
                ready = running.enter_context(
                    switch_serving(
                        config=self.config_file,
                        url=self.url,
                        directory=self.home,
                        workers=workers,
                        backend=backend,
                    )
                )
            yield ready

    def ready(self) -> ReadyState:
        """What the supervisor says now."""
        return msgspec.json.decode((self.home / "ready.json").read_bytes(), type=ReadyState)

    def log(self) -> str:
        return (self.home / "switch.log").read_text("utf-8", errors="replace")

    def rows(self, query: str) -> list[Any]:
        async def fetch() -> list[Any]:
            connection = await bridge.connect(self.url)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return bridge.run("asyncio", fetch)

    def audit(self) -> AuditReport:
        async def check() -> AuditReport:
            connection = await bridge.connect(self.url)
            try:
                caps = self.config.tiers.balance_caps_minor()
                return await audit(connection, balance_caps_minor=caps)
            finally:
                await connection.close()

        return bridge.run("asyncio", check)


def stage_on(
    url: str,
    home: Path,
    crowd: stage.Crowd,
    *,
    budget_ms: int,
    ledger: str = "",
    link: str = "",
    port: int = 0,
) -> Staged:
    home.mkdir(exist_ok=True)
    config_file = home / "citycard.toml"
    config_file.write_text(
        CONFIGURATION.format(budget_ms=budget_ms, ledger=ledger, link=link, port=port), "utf-8"
    )
    config = configuration.load(config_file)
    make_key(home / "card_number.key")
    key = read_key(home / "card_number.key")
    bridge.run("asyncio", stage.set_stage, url, config, key, crowd, lambda _step: None)
    return Staged(url, home, config_file, config, crowd)
