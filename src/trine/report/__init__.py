"""A self-contained HTML page about an engine, with photos and timings beside it if there are any."""

from __future__ import annotations

from trine.report.entries import Answer, Fact, Latency, Photo
from trine.report.page import engine_page, write_page

__all__ = ["Answer", "Fact", "Latency", "Photo", "engine_page", "write_page"]
