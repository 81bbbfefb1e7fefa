"""Keeps N workers alive, and restarts or ends them in order.

A slot is the place of one worker. On SIGHUP the slots are handed over one at a time: the
successor is started and answers, then the worker of before drains. Its peers are told by
sign-off and connect again, to whoever listens by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process, TaskGroup

from switch import logs
from switch.config import Config
from switch.ledger import bridge
from switch.worker import Assignment, Ready

RESTART_FIRST_SECONDS = 0.1
RESTART_MAX_SECONDS = 5.0
STEADY_SECONDS = 10
"""A worker that ran so long is restarted without delay."""
KILL_MARGIN_SECONDS = 5
SUCCESSOR_READY_SECONDS = 90
"""A worker gives its ledger a minute to come up, then listens all the same."""

EXIT_OK, EXIT_FAILED = 0, 1

_log = logs.get("supervisor")


class ReadyState(msgspec.Struct):
    """What `--ready-file` holds once every worker is ready, and after each restart."""

    pid: int
    database: str
    links: dict[str, int]
    metrics: list[int]
    workers: list[int]


class Child:
    """One worker process, from its start to its end."""

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        self.process: Process | None = None
        self.ready: Ready | None = None
        self.exit_code = 0
        self.stop_asked = False
        self.begun = anyio.Event()
        """It is ready, or has ended without having been."""
        self.ended = anyio.Event()

    def terminate(self) -> None:
        """Ask it to drain and end; one that is only being started ends at once."""
        self.stop_asked = True
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()


class Supervisor:
    """Starts the workers, replaces those that die, and restarts or ends them in order."""

    def __init__(
        self,
        config: Config,
        backend: bridge.Backend,
        workers: int,
        url: str,
        key_file: Path,
        ports: dict[str, int],
        ready_file: Path | None,
    ) -> None:
        self._config = config
        self._backend = backend
        self._url = url
        self._key_file = key_file
        self._ports = ports
        self._ready_file = ready_file
        self._slots = range(workers)
        self._was_up = False
        self._stop_asked = anyio.Event()
        self._roll_asked = anyio.Event()
        self._exit_code = EXIT_OK
        self._serving: dict[int, Child] = {}
        """Who has each slot; in a rolling restart its successor or predecessor runs besides."""
        self._children: set[Child] = set()

    async def run(self) -> int:
        """Until a signal, or until a worker cannot even start."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._await_signal)
            tasks.start_soon(self._kill_late)
            async with anyio.create_task_group() as children:
                children.start_soon(self._roll_when_asked, children)
                for slot in self._slots:
                    children.start_soon(self._keep, slot, children)
            tasks.cancel_scope.cancel()
        return self._exit_code

    async def _await_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self._roll_asked.set()
                    continue
                _log.info("stopping: links drain", workers=len(self._children))
                self._stop()

    def _stop(self) -> None:
        self._stop_asked.set()
        self._roll_asked.set()
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)
        for child in self._children:
            child.terminate()

    async def _kill_late(self) -> None:
        """Kill what has not ended long after its drain should have."""
        await self._stop_asked.wait()
        await anyio.sleep(self._config.server.drain_seconds + KILL_MARGIN_SECONDS)
        for child in self._children:
            self._exit_code = EXIT_FAILED
            self._kill(child)

    def _kill(self, child: Child) -> None:
        pid = child.process.pid if child.process is not None else 0
        _log.error("worker does not end; killing it", slot=child.slot, pid=pid)
        child.kill()

    # ---- one slot

    async def _keep(self, slot: int, children: TaskGroup) -> None:
        """Keep one slot filled."""
        back_off_seconds = RESTART_FIRST_SECONDS
        generation = 0
        while not self._stop_asked.is_set():
            child = self._serving.get(slot)
            if child is None or child.ended.is_set():
                child = self._serving[slot] = self._start(slot, generation, children)
            started = anyio.current_time()
            await child.ended.wait()
            if self._stop_asked.is_set():
                return
            if self._serving[slot] is not child:
                continue  # it handed its slot over; who has it now is the one to watch
            generation = child.generation
            ran_seconds = anyio.current_time() - started
            if child.ready is None and not self._was_up and ran_seconds < STEADY_SECONDS:
                _log.error(
                    "a worker could not start; stopping", slot=slot, exit_code=child.exit_code
                )
                self._exit_code = EXIT_FAILED
                self._stop()
                return
            if ran_seconds > STEADY_SECONDS:
                back_off_seconds = RESTART_FIRST_SECONDS
            _log.error("worker ended; starting another", slot=slot, exit_code=child.exit_code)
            await anyio.sleep(back_off_seconds)
            back_off_seconds = min(back_off_seconds * 2, RESTART_MAX_SECONDS)

    def _start(self, slot: int, generation: int, children: TaskGroup) -> Child:
        child = Child(slot, generation)
        self._children.add(child)
        children.start_soon(self._run_worker, child)
        return child

    async def _run_worker(self, child: Child) -> None:
        try:
            process = await anyio.open_process(
                [sys.executable, "-m", "switch.worker"],
                stdin=-1,
                stdout=-1,
                stderr=None,
                # A Ctrl-C in the terminal reaches the supervisor, which then drains the workers.
                start_new_session=True,
            )
            async with process:
                child.process = process
                if self._stop_asked.is_set() or child.stop_asked:
                    process.terminate()
                await self._converse(child, process)
                child.exit_code = await process.wait()
        finally:
            self._children.discard(child)
            child.ended.set()
            child.begun.set()

    async def _converse(self, child: Child, process: Process) -> None:
        """Give the worker its assignment, and hear when it is ready."""
        assert process.stdin is not None
        assert process.stdout is not None
        assignment = msgspec.json.encode(self._assignment(child)) + b"\n"
        try:
            await process.stdin.send(assignment)
            line = b""
            async for chunk in process.stdout:
                line += chunk
                if line.endswith(b"\n"):
                    self._worker_ready(child, msgspec.json.decode(line, type=Ready))
                    line = b""
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    def _assignment(self, child: Child) -> Assignment:
        first_port = self._config.server.metrics_port
        return Assignment(
            slot=child.slot,
            config=self._config,
            backend=self._backend,
            database=self._url,
            card_key_file=str(self._key_file),
            ports=self._ports,
            metrics_port=first_port + child.slot if first_port else 0,
            generation=child.generation,
        )

    # ---- all slots, one after the other

    async def _roll_when_asked(self, children: TaskGroup) -> None:
        """Restart the workers one at a time, each time it is asked for; until the stop."""
        while True:
            await self._roll_asked.wait()
            self._roll_asked = anyio.Event()
            if self._stop_asked.is_set():
                return
            _log.info("restarting the workers one at a time", workers=len(self._slots))
            for slot in self._slots:
                if not await self._hand_over(slot, children):
                    break
            else:
                _log.info("all workers restarted", workers=len(self._slots))

    async def _hand_over(self, slot: int, children: TaskGroup) -> bool:
        """Start the successor of a slot's worker, and drain that one once it is ready."""
        successor = self._start(slot, self._serving[slot].generation + 1, children)
        with anyio.move_on_after(SUCCESSOR_READY_SECONDS):
            await successor.begun.wait()
        if self._stop_asked.is_set():
            return False
        if successor.ready is None:
            _log.error(
                "a new worker could not start; the old ones go on",
                slot=slot,
                exit_code=successor.exit_code,
            )
            successor.kill()
            return False
        # Whoever has the slot by now: the worker of before may have died meanwhile.
        before, self._serving[slot] = self._serving[slot], successor
        self._show_ready()
        before.terminate()
        with anyio.move_on_after(self._config.server.drain_seconds + KILL_MARGIN_SECONDS):
            await before.ended.wait()
        if not before.ended.is_set():
            self._kill(before)
        return not self._stop_asked.is_set()

    def _worker_ready(self, child: Child, ready: Ready) -> None:
        child.ready = ready
        child.begun.set()
        # From now on a worker that cannot start is tried again: its ledger may come back.
        self._was_up = True
        _log.info(
            "worker ready",
            slot=ready.slot,
            pid=ready.pid,
            metrics_port=ready.metrics_port,
            ruleset=ready.ruleset[:12],
            links=self._ports,
            backend=self._backend,
        )
        if self._serving.get(child.slot) is child:
            self._show_ready()

    def _show_ready(self) -> None:
        """Write the ready file, once every slot's worker is ready and none is to stop."""
        ready = [self._serving[slot].ready for slot in self._slots if slot in self._serving]
        by_slot = [each for each in ready if each is not None]
        if (
            self._ready_file is not None
            and len(by_slot) == len(self._slots)
            and not self._stop_asked.is_set()
        ):
            self._write_ready_file(self._ready_file, by_slot)

    def _write_ready_file(self, path: Path, by_slot: list[Ready]) -> None:
        """Whole or not at all: whoever waits for the file reads it at once."""
        state = ReadyState(
            pid=os.getpid(),
            database=bridge.without_secrets(self._url),
            links=self._ports,
            metrics=[ready.metrics_port for ready in by_slot],
            workers=[ready.pid for ready in by_slot],
        )
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_bytes(msgspec.json.encode(state))
        beside.replace(path)
