"""Jobs of several stages: which stages overlap, in what order results and errors come."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from segreg.engine.conveyor import AHEAD, Job, finish, overlap, stages_of, whole

PATIENCE = 20  # seconds until a stage that nobody lets go on gives up


class Jobs:
    """Jobs that write down what they do, and wait for events where told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.begun: dict[str, threading.Event] = {}
        self.gates: dict[str, threading.Event] = {}
        self.threads: dict[str, set[int]] = {"read": set(), "compute": set(), "deliver": set()}
        self.closed: list[int] = []

    def hold(self, *steps: str) -> None:
        self.gates.update({step: threading.Event() for step in steps})

    def wait_until(self, step: str) -> None:
        assert self.begun.setdefault(step, threading.Event()).wait(PATIENCE), f"{step} never began"

    def _do(self, stage: str, number: int) -> None:
        step = f"{stage} {number}"
        self.begun.setdefault(step, threading.Event()).set()
        if step in self.gates:
            assert self.gates[step].wait(PATIENCE), f"{step} was never let go"
        self.threads[stage].add(threading.get_ident())
        self.done.append(step)

    def job(self, number: int, fails_in: str | None = None) -> Job[int]:
        try:
            for stage in ("read", "compute", "deliver"):
                if stage == fails_in:
                    raise ValueError(f"{stage} {number}")
                self._do(stage, number)
                if stage != "deliver":
                    yield
        finally:
            self.closed.append(number)
        return number


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


def test_results_come_in_order_and_each_stage_has_its_thread(jobs: Jobs) -> None:
    assert list(overlap(jobs.job(k) for k in range(6))) == list(range(6))
    for stage, threads in jobs.threads.items():
        steps = [step for step in jobs.done if step.startswith(stage)]
        assert steps == [f"{stage} {k}" for k in range(6)]
        assert len(threads) == 1
    assert len(set.union(*jobs.threads.values())) == 3


def test_the_next_is_read_while_one_is_computed(jobs: Jobs) -> None:
    jobs.hold("compute 0")
    found: list[int] = []
    consumer = threading.Thread(target=lambda: found.extend(overlap(map(jobs.job, range(3)))))
    consumer.start()
    jobs.wait_until("compute 0")
    jobs.wait_until("read 1")  # though 0 is still being computed
    assert not found
    jobs.gates["compute 0"].set()
    consumer.join(PATIENCE)
    assert found == [0, 1, 2]


def test_the_last_is_handed_over_while_the_next_is_computed(jobs: Jobs) -> None:
    jobs.hold("deliver 0")
    found: list[int] = []
    consumer = threading.Thread(target=lambda: found.extend(overlap(map(jobs.job, range(3)))))
    consumer.start()
    jobs.wait_until("deliver 0")
    jobs.wait_until("compute 1")
    jobs.gates["deliver 0"].set()
    consumer.join(PATIENCE)
    assert found == [0, 1, 2]


def test_work_goes_on_while_a_result_is_looked_at(jobs: Jobs) -> None:
    results = overlap(map(jobs.job, range(3)))
    assert next(results) == 0
    jobs.wait_until("deliver 1")
    assert list(results) == [1, 2]


def test_no_more_is_asked_for_than_is_worked_on(jobs: Jobs) -> None:
    asked: list[int] = []

    def numbers() -> Iterator[Job[int]]:
        for k in range(9):
            asked.append(k)
            yield jobs.job(k)

    results = overlap(numbers())
    assert not asked
    for k in range(3):
        next(results)
        assert asked == list(range(k + 1 + AHEAD))
    results.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("stage", ["read", "compute", "deliver"])
def test_an_error_comes_at_its_own_turn(jobs: Jobs, stage: str) -> None:
    results = overlap(jobs.job(k, stage if k == 2 else None) for k in range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match=f"{stage} 2"):
        next(results)
    assert list(results) == []
    assert "deliver 4" not in jobs.done


@pytest.mark.parametrize("held", ["read 1", "compute 1", "deliver 1"])
def test_stopping_early_leaves_nothing_running(jobs: Jobs, held: str) -> None:
    before = threading.active_count()
    jobs.hold(held)
    results = overlap(map(jobs.job, range(9)))
    assert next(results) == 0
    jobs.wait_until(held)
    release = threading.Timer(0.2, jobs.gates[held].set)
    release.start()
    results.close()  # type: ignore[attr-defined]
    release.join()
    assert threading.active_count() == before
    assert jobs.done[-1] == held
    begun = {int(step.split()[1]) for step in jobs.begun}
    assert max(begun) <= 1 + AHEAD
    assert begun <= set(jobs.closed)


def test_whole_jobs(jobs: Jobs) -> None:
    class Owner:
        @whole
        def run(self, number: int) -> Job[int]:
            """What it does."""
            return (yield from jobs.job(number))

    assert Owner().run(3) == 3
    assert Owner.run.__doc__ == "What it does."
    assert finish(stages_of(Owner().run)(number=4)) == 4
    assert finish(jobs.job(5)) == 5
