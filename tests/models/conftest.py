"""Recipes need torch, which the runtime does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Recipes set torch's threads and seed; tests after them shall not notice."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
