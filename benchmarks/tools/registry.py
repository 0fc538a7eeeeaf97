"""The tools that are measured, by id; each library is imported by its own tool alone."""

from __future__ import annotations

from benchmarks.tools import ants, convexadam, demons, dipy, elastix, greedy, ours
from benchmarks.tools.base import Tool

TOOLS: dict[str, Tool] = {
    tool.id: tool
    for module in (ours, greedy, ants, elastix, demons, dipy, convexadam)
    for tool in module.TOOLS
}
