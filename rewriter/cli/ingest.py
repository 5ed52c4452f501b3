"""`rewriter ingest`: run a worker that counts events, or ingest the events of a file."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Event as Flag
from threading import Thread
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from rewriter.cli.causes import own_client
from rewriter.cli.given_stores import objects_of, stores_of
from rewriter.cli.output import UNHEALTHY, faults_refused, print_json, print_line, store_needed
from rewriter.errors import ConfigurationError, Fault
from rewriter.plural import agreeing, count_of
from rewriter.settings import Settings
from rewriter.shell.fleet import printable
from rewriter.signals.ingest.batch import CountingRules
from rewriter.signals.ingest.contract import StreamKeys
from rewriter.signals.ingest.follow import IndexFollower
from rewriter.signals.ingest.population import population_made
from rewriter.signals.ingest.replay import MAX_BACKLOG, Replay
from rewriter.signals.ingest.worker import BACKOFF_S, IDLE_S, Worker
from rewriter.signals.redis_store import RedisStore

DONE_POLL_S = 0.05
FOLLOW_POLL_S = 1.0
"""Pause after an index had no new events, which become visible once a second: it serves searches too."""
LINE_PERIOD_S = 10.0


def ingest(
    toml: Annotated[Path, typer.Option(help="The settings file.")] = Path("rewriter.toml"),
    file: Annotated[
        Path | None,
        typer.Option(help="Append the events of this NDJSON file, count them, and end.", exists=True, dir_okay=False),
    ] = None,
    from_index: Annotated[
        str | None, typer.Option(help="Follow the events of this index too, such as the UBI plugin's ubi_events.")
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Serve Prometheus metrics on this port (extra: prometheus).", min=1, max=65_535)
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="The address that the metrics are served on.")] = "127.0.0.1",
) -> None:
    """Count events until stopped. Start one worker for each core that may be busy: they share the partitions.

    On SIGTERM a worker finishes its batch, gives its leases back and prints the number of entries by outcome. With a file it prints
    the outcomes of the file's lines alone, whichever workers counted them. The exit code is 1 if some lines are not events or were
    refused.
    """
    with faults_refused():
        settings = Settings.from_toml(toml)
        store, profiles = stores_of(settings)
        worker = worker_of(settings, store, profiles)
        if metrics_port is not None:
            serve_metrics(worker, metrics_host, metrics_port)
    keys = StreamKeys(settings.store.prefix)
    replay = Replay(store, keys, file) if file else None
    follower = None
    if from_index is not None:
        follower = IndexFollower(
            store, keys, own_client(settings.opensearch).raw, from_index, settings.signals.action_weights
        )
    stopping = set_by_signals(signal.SIGTERM, signal.SIGINT)
    with store_needed():
        store.ping()
        profiles.ping()
    with population_made(profiles, CountingRules.of(settings)):
        _work(worker, replay, follower, stopping)
    worker.close()
    if replay is None:
        followed = {"followed": dict(sorted(follower.counts.items()))} if follower else {}
        print_json(dict(sorted(worker.counts.items())) | followed)
        for fault in follower.faults if follower else ():
            print_line(fault)
    elif not _all_well(replay):
        raise typer.Exit(UNHEALTHY)


def set_by_signals(*numbers: signal.Signals) -> Flag:
    """Return a flag that is set once one of the signals has arrived.

    A thread sets it. The handler runs on the main thread, perhaps while that thread holds the flag's lock to wait for it, and would
    wait for the lock forever. `SimpleQueue.put` alone takes no lock that the interrupted code may hold.
    """
    arrived: SimpleQueue[int] = SimpleQueue()
    found = Flag()

    def wait() -> None:
        arrived.get()
        found.set()

    for number in numbers:
        signal.signal(number, lambda received, _: arrived.put(received))
    Thread(target=wait, name="rewriter-signals", daemon=True).start()
    return found


def serve_metrics(worker: Worker, host: str, port: int) -> None:
    """Serve the worker's metrics on a thread of their own. Raises ConfigurationError if the extra or the port is missing."""
    try:
        from prometheus_client import start_http_server  # noqa: PLC0415  an extra

        from rewriter.observe.prometheus import WorkerMetrics  # noqa: PLC0415  needs the extra
    except ImportError:
        remedy = "pip install 'rewriter[prometheus]'"
        raise ConfigurationError([Fault("--metrics-port", "needs prometheus-client", remedy)]) from None
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        raise ConfigurationError([Fault("--metrics-port", f"cannot listen on {host}:{port}: {error}")]) from None
    WorkerMetrics(worker)


def _all_well(replay: Replay) -> bool:
    """Print the outcomes of a file's events and the problems of some. Return whether there are none."""
    with store_needed():
        fates, reasons = replay.fates()
        replay.close()
    print_json(dict(sorted(fates.items())) | {"appended": replay.appended})
    for fault in replay.faults:
        print_line(fault)
    if replay.faulty:
        print_line(f"lines that are not events: {replay.faulty:,}")
    for reason, count in reasons.most_common():
        print_line(f"{count:,} refused: {printable(reason)}")
    if not replay.done:
        print_line(f"stopped after {replay.read_bytes:,} of {replay.size_bytes:,} bytes: run it again")
    if fates["waiting"]:
        print_line(f"{fates['waiting']:,} {agreeing(fates['waiting'], 'wait')} for their object to be in the index")
    if fates["unknown"]:
        print_line(
            f"{fates['unknown']:,} {agreeing(fates['unknown'], 'have')} no known outcome: no worker counted them, or one "
            "that does not report outcomes"
        )
    return replay.done and not replay.faulty and not reasons and not fates["waiting"] and not fates["unknown"]


def worker_of(settings: Settings, store: RedisStore, profiles: RedisStore) -> Worker:
    """Return a worker with these settings. Raises ConfigurationError if there is no index to look objects up in."""
    plan = CountingRules.of(settings)
    return Worker(store, profiles, objects_of(settings), plan, clock_s=time.monotonic, now_s=time.time)


def _work(worker: Worker, replay: Replay | None, follower: IndexFollower | None, stopping: Flag) -> None:
    """Work until stopped; with a file, until all its events are appended and have an outcome."""
    follow_at_s = 0.0
    with _progress(worker, replay) as show:
        while not stopping.is_set():
            handled = worker.step()
            fed = 0
            if replay is not None and worker.partitions and worker.backlog.entries < MAX_BACKLOG:
                fed = replay.feed(worker.partitions)
            is_due = follower is not None and time.monotonic() >= follow_at_s
            if follower is not None and is_due and worker.partitions and worker.backlog.entries < MAX_BACKLOG:
                followed = _followed(follower, worker.partitions)
                follow_at_s = time.monotonic() + (0.0 if followed else FOLLOW_POLL_S)
                fed += followed
            show.update()
            if handled or fed:
                continue
            if replay is not None and replay.is_done():
                return
            stopping.wait(BACKOFF_S if worker.trouble else IDLE_S if replay is None else DONE_POLL_S)


def _followed(follower: IndexFollower, partitions: int) -> int:
    """Append the next events of the index; say once what keeps it from being read."""
    before = follower.trouble
    fed = follower.feed(partitions)
    if follower.trouble and follower.trouble != before:
        print_line(follower.trouble)
    return fed


class _Progress:
    """The progress line: updated in place in a terminal, a new line every ten seconds elsewhere."""

    def __init__(self, worker: Worker, replay: Replay | None, live: Live | None) -> None:
        self._worker = worker
        self._replay = replay
        self._live = live
        self._shown_s = time.monotonic()
        self._seen = 0

    def update(self) -> None:
        """Show the progress, if it is due."""
        now_s = time.monotonic()
        if now_s - self._shown_s < (0.25 if self._live else LINE_PERIOD_S):
            return
        worker, handled = self._worker, sum(self._worker.counts.values())
        rate = (handled - self._seen) / (now_s - self._shown_s)
        self._shown_s, self._seen = now_s, handled
        line = (
            f"{count_of(handled, 'entry')} · {rate:,.0f}/s · {worker.backlog.entries:,} waiting · lag {worker.backlog.lag_s:.1f} s"
            f" · partitions {len(worker.held)}/{worker.partitions}"
        )
        if self._replay is not None:
            line += f" · file {self._replay.read_bytes / max(1, self._replay.size_bytes):.0%}"
        if worker.trouble:
            line += f" · {worker.trouble}"
        if self._live:
            self._live.update(line)
        else:
            print_line(line)


@contextmanager
def _progress(worker: Worker, replay: Replay | None) -> Iterator[_Progress]:
    if not sys.stderr.isatty():
        yield _Progress(worker, replay, None)
        return
    with Live("", console=Console(stderr=True), transient=True) as live:
        yield _Progress(worker, replay, live)
