"""Jobs of several stages, one after the other, so that stages of different jobs overlap.

A job is a generator that yields between its stages and returns its result. Each stage has a thread
of its own: while one job is computed, the next is read and the last is handed over.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Job: TypeAlias = Generator[None, None, T]

STAGES = 3  # read, compute, hand over
AHEAD = 1  # jobs under way beside the one that is waited for


def whole(stages: Callable[P, Job[T]]) -> Callable[P, T]:
    """The function that does all stages of a job at once; ``stages_of`` gives them back."""

    @wraps(stages)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return finish(stages(*args, **kwargs))

    return run


def stages_of(method: Any) -> Callable[..., Job[Any]]:
    """The job behind a bound method that ``whole`` made."""
    return partial(method.__func__.__wrapped__, method.__self__)


def finish(job: Job[T]) -> T:
    """All stages of ``job``, here and now."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: T = end.value
            return result


def overlap(jobs: Iterable[Job[T]]) -> Iterator[T]:
    """Results of ``jobs`` in their order; an error comes when its job's turn comes.

    Whoever stops early waits for the stages that are running; no further one is begun.
    """
    workers = [ThreadPoolExecutor(max_workers=1) for _ in range(STAGES)]
    stopped = threading.Event()
    under_way: deque[tuple[Job[T], Future[T]]] = deque()
    try:
        for job in jobs:
            under_way.append((job, _start(job, workers, stopped)))
            if len(under_way) > AHEAD:
                yield under_way.popleft()[1].result()
        while under_way:
            yield under_way.popleft()[1].result()
    finally:
        stopped.set()
        for worker in workers:
            worker.shutdown(cancel_futures=True)
        for job, _ in under_way:
            job.close()


def _start(
    job: Job[T], workers: list[ThreadPoolExecutor], stopped: threading.Event
) -> Future[T]:
    """The stages of ``job``, each in the queue of its worker, each after the one before."""

    def wait_for(before: Future[None] | None) -> None:
        if before is not None:
            before.result()
        if stopped.is_set():
            raise CancelledError

    def step(before: Future[None] | None) -> None:
        wait_for(before)
        next(job)

    def last_step(before: Future[None] | None) -> T:
        wait_for(before)
        return finish(job)

    before = None
    for worker in workers[:-1]:
        before = worker.submit(step, before)
    return workers[-1].submit(last_step, before)
