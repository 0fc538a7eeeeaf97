"""The tools that are measured, by id; each library is imported by its own tool alone."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

from benchmarks.tools import ants, convexadam, demons, dipy, elastix, greedy, ours
from benchmarks.tools.base import Tool

TOOLS: dict[str, Tool] = {
    tool.id: tool
    for module in (ours, greedy, ants, elastix, demons, dipy, convexadam)
    for tool in module.TOOLS
}
BY_IMAGES = [id for id, tool in TOOLS.items() if tool.driven_by == "image"]


def installed_tools(
    asked: Iterable[Tool], console: Console
) -> tuple[list[Tool], dict[str, str]]:
    """Those of ``asked`` that can run here, and why the others cannot, which is said, too."""
    found, absent = [], {}
    for tool in asked:
        reason = tool.available()
        if reason is None:
            found.append(tool)
        else:
            absent[tool.id] = reason
            console.print(f"{tool.id} is left out, {reason}")
    return found, absent
