"""Rulesets on history: read from the ledger, replayed by the code that decides live, reported."""
