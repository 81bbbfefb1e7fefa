"""A whole switch under traffic in one command, on a ledger of its own, proven at the end."""

from switch.demo.run import run

__all__ = ["run"]
