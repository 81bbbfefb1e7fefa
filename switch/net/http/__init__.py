"""The HTTP API: bills and counters, in each worker, before the same pipeline as every link."""
