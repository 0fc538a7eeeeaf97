"""The command line ``segreg``; every command group has its own file, ``commands`` joins them."""

from __future__ import annotations

from segreg.cli.commands import main

__all__ = ["main"]
