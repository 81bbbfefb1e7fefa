"""Cards of another city or bank: their requests go to their issuer's host, and come back.

`Upstreams` is what the pipeline calls (`IssuerRoutes`); see desk.py.
"""

from switch.net.upstream.desk import Upstreams

__all__ = ["Upstreams"]
