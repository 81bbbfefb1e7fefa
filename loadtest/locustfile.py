"""What Locust loads: `locust -f loadtest/locustfile.py --host iso8583://127.0.0.1:8583`."""

from loadtest.users import RetailTerminal

__all__ = ["RetailTerminal"]
