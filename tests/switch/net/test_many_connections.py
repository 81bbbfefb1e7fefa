"""Ten thousand connections that say nothing: they cost memory that is stated, and no answer."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys

import anyio
import pytest

from switch.worker import spare_the_collector

CONNECTIONS = 10_000
OWN_DESCRIPTORS = 500
RSS_BYTES_MAX_PER_CONNECTION = 24_000
"""Measured 12 to 17 kB on CPython 3.11; ten thousand idle links are then some 170 MB."""

# Opens them all, says so, waits until the other side has closed each, and says that.
CROWD = """
import resource, select, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
print("open", flush=True)
poll = select.epoll()
by_number = {each.fileno(): each for each in silent}
for number in by_number:
    poll.register(number, select.EPOLLIN)
while by_number:
    for number, _ in poll.poll():
        if not by_number[number].recv(1):
            poll.unregister(number)
            by_number.pop(number).close()
print("closed", flush=True)
"""


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def many_descriptors():
    """As many open files as that takes; skipped (a failure with CI set) where they are not had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + OWN_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the hard limit of open files is {hard}; raise it to {wanted} or more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def collector_as_in_a_worker():
    thresholds = gc.get_threshold()
    spare_the_collector()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("many_descriptors", "collector_as_in_a_worker")
async def test_ten_thousand_silent_connections(serving, approver, link_terms, anyio_backend):
    async with serving(link_terms("unionpay_pos"), approver.submit, sweep_seconds=0.5) as edge:
        peer = await edge.peer()
        await peer.send(peer.echo())
        await peer.receive()
        before = _resident_bytes()
        command = [sys.executable, "-c", CROWD, str(edge.port), str(CONNECTIONS)]
        crowd = await anyio.open_process(command, stderr=subprocess.STDOUT)
        try:
            async with edge.bystander():
                with anyio.fail_after(60):
                    assert await crowd.stdout.receive() == b"open\n"
                await edge.until(lambda: len(edge.link.open_connections) == CONNECTIONS + 2, 60)
            grown = _resident_bytes() - before
            print(f"{anyio_backend}: {grown / CONNECTIONS:.0f} bytes a silent connection")
            assert grown / CONNECTIONS < RSS_BYTES_MAX_PER_CONNECTION
            edge.clock.advance(400)
            await peer.send(peer.sale(1))
            assert await peer.codes() == ["00"]
            edge.clock.advance(400)
            with anyio.fail_after(60):
                assert await crowd.stdout.receive() == b"closed\n"
            await peer.send(peer.sale(2))
            assert await peer.codes() == ["00"]
            await edge.until(lambda: len(edge.link.open_connections) == 1)
            closed = "citycard_link_closed_total"
            # ... and the bystander, who is silent too by now
            assert edge.metric(closed, link="retail-1", reason="idle") == CONNECTIONS + 1
            assert len(edge.log.closed()) == 5, "the same line ten thousand times helps nobody"
        finally:
            if crowd.returncode is None:
                crowd.kill()
            await crowd.wait()
            await crowd.aclose()
