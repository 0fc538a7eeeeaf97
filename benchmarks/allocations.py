"""A pytest plugin: no memory pool, so that a memory checker sees where every array ends."""

from __future__ import annotations

import cupy

cupy.cuda.set_allocator(None)
