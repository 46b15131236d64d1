"""Adapters with the interface of a multi-tier cache that each process has for itself.

They take the settings of such a cache, say which rules of the daemon stand for them, and read and
write through the host's one cache. See ``docs/migration.md`` of the package.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from typing import Any, Collection, Literal

from . import _l1d, aio
from .errors import Error
from .serializers import Serializer
from .types import Ttl

__all__ = ["DirectCacheAdapter", "MultiTierCacheAdapter", "PolicyDiffers", "PolicyWarning"]

log = logging.getLogger("l1d.adapters")

_MISS: Any = object()


class PolicyDiffers(Error):
    """The daemon's rules are not those that an adapter's settings stand for.

    `toml` has the rules that are missing.
    """

    def __init__(self, text: str, toml: str) -> None:
        super().__init__(text, toml)
        self.toml = toml

    def __str__(self) -> str:
        return str(self.args[0])


class PolicyWarning(UserWarning):
    """The daemon's rules are not those that an adapter's settings stand for."""


class DirectCacheAdapter:
    """Objects in the host's cache by ``await get``, ``set`` and ``delete``, without settings of its
    own: what the daemon's rules say holds."""

    def __init__(
        self,
        client: "aio.Client | _l1d.Client | str | os.PathLike[str] | None" = None,
        *,
        serializer: "str | Serializer" = "json",
        default_ttl: Ttl = None,
        **options: Any,
    ) -> None:
        self.cache = aio.Cache(client, serializer=serializer, **options)
        self.default_ttl = default_ttl
        self.reads = 0
        self.hits = 0

    async def get(self, key: str, default: Any = None) -> Any:
        """The object of a key; `default` without one."""
        self.reads += 1
        value = self.cache._peek(key, _MISS)
        if value is not _MISS:
            self.hits += 1
            if log.isEnabledFor(logging.DEBUG):
                log.debug("L1 HIT%s: %s", self._kind(key), key)
            return value
        found = await self.cache.client.lookup(key)
        if log.isEnabledFor(logging.DEBUG):
            how = "answered below L1" if found else "MISS in all tiers"
            log.debug("L1 MISS%s: %s, %s", self._kind(key), key, how)
        return self.cache._load(found.value, found.flags) if found else default

    async def set(self, key: str, value: Any, ttl: Ttl = None) -> bool:
        """Stores an object: every process of the host reads it from now on. Raises if not."""
        stored = await self.cache.set(key, value, self.default_ttl if ttl is None else ttl)
        if log.isEnabledFor(logging.DEBUG):
            degraded = ", not in every tier" if stored.degraded else ""
            log.debug("%s%s: %s%s", self._SET, self._in_brackets(key), key, degraded)
        return True

    async def delete(self, key: str) -> bool:
        """Removes a key from every tier. Whether there was one."""
        deleted = await self.cache.delete(key)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s%s: %s", self._DELETE, self._in_brackets(key), key)
        return bool(deleted)

    async def stats(self) -> dict[str, Any]:
        """Where the host's reads were answered, as the daemon knows it (each process tells its hits
        with its next request), and what this adapter has read from L1."""
        stats = await self.cache.client.stats()
        tiers = stats["tiers"] or {}
        requests = stats["requests"]
        l1 = stats["clients"]["client_reported"]["hits"] + requests["gets_found_in_table"]
        l2, l3 = (tiers.get(tier) or {} for tier in ("l2", "l3"))
        found = {"l1": l1, "l2": l2.get("hits", 0), "l3": l3.get("hits", 0)}
        last = l3 or l2
        misses = last.get("misses", 0) if last else stats["flights"]["begun"]
        reads = sum(found.values()) + misses
        shares: dict[str, Any] = {
            tier: {"hits": hits, "share": hits / reads if reads else 0.0}
            for tier, hits in found.items()
        }
        own = {"reads": self.reads, "l1_hits": self.hits}
        return {"reads": reads, **shares, "misses": misses, "this_process": own}

    _SET = "SET"
    _DELETE = "DELETE"

    def _kind(self, key: str) -> str:
        return ""

    def _in_brackets(self, key: str) -> str:
        return ""


class MultiTierCacheAdapter(DirectCacheAdapter):
    """Takes the settings of a cache with an L1 in each process.

    `cross_process_prefixes` are the keys that several processes share. With `cross_process_mode`
    they are in the host's L1: what one process writes is what the next read of any other returns.
    Without it, each process keeps copies of its own again, as stale as `cross_process_l1_ttl`
    seconds.

    These are the daemon's rules, and a client cannot set them: the adapter compares, at its first
    use, and if they differ it raises :class:`PolicyDiffers` with the lines of the daemon's
    configuration that are missing, or warns (`on_policy_mismatch="warn"`). `policy_toml` has these
    lines at any time.

    `l1_ttl` is the rule's ttl of the other keys; `None` leaves it to the daemon. In the host's L1
    `cross_process_l1_ttl` bounds only how old a copy may be when something writes to the tiers
    without this host's daemon: leave it out if nothing does.
    """

    _SET = "MULTI-TIER SET"
    _DELETE = "MULTI-TIER DELETE"

    def __init__(
        self,
        client: "aio.Client | _l1d.Client | str | os.PathLike[str] | None" = None,
        *,
        cross_process_mode: bool = True,
        cross_process_l1_ttl: float | None = None,
        cross_process_prefixes: Collection[str] = (),
        l1_ttl: float | None = None,
        on_policy_mismatch: Literal["raise", "warn", "ignore"] = "raise",
        **options: Any,
    ) -> None:
        if isinstance(cross_process_prefixes, str):
            raise TypeError("cross_process_prefixes are several: a set of str, not one str")
        if on_policy_mismatch not in ("raise", "warn", "ignore"):
            raise ValueError(
                f'on_policy_mismatch is "raise", "warn" or "ignore", not {on_policy_mismatch!r}'
            )
        super().__init__(client, **options)
        self.cross_process_mode = cross_process_mode
        self._shared = tuple(sorted(cross_process_prefixes))
        self._rules = _rules(cross_process_mode, cross_process_l1_ttl, self._shared, l1_ttl)
        self._on_mismatch = on_policy_mismatch
        self._is_checked = on_policy_mismatch == "ignore"

    @property
    def policy_toml(self) -> str:
        """The lines of the daemon's configuration that these settings stand for."""
        return _toml(self._rules)

    async def check_policy(self) -> None:
        """Compares the daemon's rules with these settings."""
        policy = await self.cache.client.policy()
        differing = _differing(self._rules, policy["rules"], self.cache.client.sync.prefix.decode())
        self._is_checked = True
        if not differing:
            return
        toml = _toml(differing)
        text = (
            "the daemon's rules are not those of this adapter's settings; put these into its"
            f" configuration and run `l1ctl policy reload`:\n\n{toml}"
        )
        if self._on_mismatch == "raise":
            self._is_checked = False
            raise PolicyDiffers(text, toml)
        warnings.warn(text, PolicyWarning, stacklevel=3)
        log.warning("%s", text)

    async def get(self, key: str, default: Any = None) -> Any:
        if not self._is_checked:
            await self.check_policy()
        return await super().get(key, default)

    async def set(self, key: str, value: Any, ttl: Ttl = None) -> bool:
        if not self._is_checked:
            await self.check_policy()
        return await super().set(key, value, ttl)

    async def delete(self, key: str) -> bool:
        if not self._is_checked:
            await self.check_policy()
        return await super().delete(key)

    def is_cross_process(self, key: str) -> bool:
        """Whether the settings call this key shared by several processes."""
        return key.startswith(self._shared)

    def _kind(self, key: str) -> str:
        return " for cross-process key" if self.is_cross_process(key) else ""

    def _in_brackets(self, key: str) -> str:
        return " (cross-process)" if self.is_cross_process(key) else ""


_Rule = dict[str, Any]


def _rules(
    shares: bool, shared_ttl: float | None, prefixes: tuple[str, ...], ttl: float | None
) -> list[_Rule]:
    """The rules that the settings stand for."""
    for name, seconds in (("cross_process_l1_ttl", shared_ttl), ("l1_ttl", ttl)):
        if seconds is not None and not seconds > 0:
            raise ValueError(f"{name} is more than 0 seconds, not {seconds!r}")
    scope = "host" if shares else "process"
    rules = [{"prefix": prefix, "scope": scope, "ttl": shared_ttl} for prefix in prefixes]
    if not shares:
        # A copy in a process is stale for as long as it lives; the old cache's default is kept.
        for rule in rules:
            rule["ttl"] = rule["ttl"] or 2.0
    if ttl is not None:
        rules.append({"prefix": "", "scope": None, "ttl": ttl})
    return rules


def _toml(rules: list[_Rule]) -> str:
    """Rules as the daemon's configuration has them."""
    parts = []
    for rule in rules:
        is_default = not rule["prefix"]
        lines = ["[defaults]"] if is_default else ["[[policy]]"]
        if not is_default:
            lines.append(f"prefix = {json.dumps(rule['prefix'])}")
        if rule["scope"] is not None:
            lines.append(f'scope = "{rule["scope"]}"')
        if rule["ttl"] is not None:
            lines.append(f'ttl = "{_milliseconds(rule["ttl"])}ms"')
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _differing(rules: list[_Rule], daemons: list[dict[str, Any]], prefix: str) -> list[_Rule]:
    """Those of the rules that the daemon does not have."""
    by_prefix = {bytes.fromhex(rule["prefix_hex"]): rule for rule in daemons}
    differing = []
    for rule in rules:
        full = rule["prefix"] and prefix + rule["prefix"]
        has = by_prefix.get(full.encode())
        scope, ttl = rule["scope"], rule["ttl"]
        if (
            has is None
            or (scope is not None and has["scope"] != scope)
            or (ttl is not None and has["ttl_ms"] != _milliseconds(ttl))
        ):
            differing.append({**rule, "prefix": full})
    return differing


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
