"""Backends for the caches of web frameworks, one module for each; none imports another's framework.

- `l1d.backends.django.L1dCache`
- `l1d.backends.flask_caching.L1dCache` and `l1d.backends.cachelib.L1dCache`
- `l1d.backends.dogpile.L1dBackend`, which dogpile.cache knows as "l1d"
- `l1d.backends.aiocache.L1dCache`
- `l1d.backends.fastapi_cache.L1dBackend`

docs/frameworks.md shows how each is configured, and what differs from the framework's own.
"""
