"""Versions of the packages that a build depended on, without importing them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

__all__ = ["installed_versions", "package_version"]


@functools.cache
def package_version(package: str) -> str | None:
    """The installed version of a distribution, or None where it is not installed."""
    if package == "trine":  # what runs, which need not be what is installed
        from trine import __version__

        return __version__
    from importlib import metadata  # imported late: it takes 20 ms, and running an engine may never ask

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of ``packages`` that are installed."""
    found = ((package, package_version(package)) for package in packages)
    return {package: version for package, version in found if version is not None}
