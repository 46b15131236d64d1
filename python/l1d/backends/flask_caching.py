"""A backend of Flask-Caching::

    app.config.update(
        CACHE_TYPE="l1d.backends.flask_caching.L1dCache",
        CACHE_L1D_SOCKET="/run/l1d/l1d.sock",  # optional
        CACHE_KEY_PREFIX="shop:",
    )

``CACHE_OPTIONS`` takes the other parameters of `L1dCache`, as ``on_error``. Values are pickled,
unless ``CACHE_SERIALIZER`` is set: see `l1d.backends.cachelib`.
"""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_caching.backends.base import BaseCache

from . import cachelib

__all__ = ["L1dCache"]


class L1dCache(cachelib.L1dCache, BaseCache):
    """A cache of Flask-Caching on l1d. Its parameters are those of
    `l1d.backends.cachelib.L1dCache`."""

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> L1dCache:
        if not args:
            kwargs.setdefault("socket", config.get("CACHE_L1D_SOCKET"))
        kwargs.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        return cls(*args, **kwargs)
