"""Jobs of several stages, one after the other, so that stages of different jobs overlap.

A job is a generator that yields between its stages and returns its result. Each stage has a thread
of its own: while one job is computed, the next is read and the last is handed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
    with ExitStack() as resources:
        workers = []
        for _ in range(STAGES):
            workers.append(ThreadPoolExecutor(max_workers=1))
            resources.callback(workers[-1].shutdown, cancel_futures=True)
        under_way: deque[Future[T]] = deque()
        for job in jobs:
            resources.callback(job.close)
            under_way.append(_start(job, workers))
            if len(under_way) > AHEAD:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _start(job: Job[T], workers: list[ThreadPoolExecutor]) -> Future[T]:
    before = None
    for worker in workers[:-1]:
        before = worker.submit(_step, job, before)
    return workers[-1].submit(_last_step, job, before)


def _step(job: Job[T], before: Future[None] | None) -> None:
    if before is not None:
        before.result()
    next(job)


def _last_step(job: Job[T], before: Future[None] | None) -> T:
    if before is not None:
        before.result()
    return finish(job)
