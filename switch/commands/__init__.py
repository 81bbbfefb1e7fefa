"""The commands of `citycard`, one module for each subject; `switch/cli.py` puts them together."""
