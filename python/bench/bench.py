"""What calls from Python cost: l1d against its goals, and beside other caches.

All is measured in one process, in interleaved rounds, and the least of each row's rounds counts: it
is what the call takes when nothing disturbs it. Of 16 KiB the median counts, because where malloc
puts a large copy decides half of what it costs, and each round puts it elsewhere. `--record` writes
RESULTS.md and results.svg.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib.util
import json
import math
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import l1d
from l1d import aio
from l1d.pytest_plugin import Server

HERE = Path(__file__).parent
VALUE = b"x" * 64
OBJECT = {"signal": "long", "price": 64000.5, "levels": [1, 2, 3]}
DAY = 86_400


def per_call(call: Callable[[], Any], count: int) -> Callable[[], float]:
    """Measures a call in a loop, in nanoseconds."""
    timer = timeit.Timer("call()", globals={"call": call})
    return lambda: timer.timeit(count) / count * 1e9


def statement(text: str, count: int, **names: Any) -> Callable[[], float]:
    """Measures a statement in a loop, without the cost of a function around it."""
    timer = timeit.Timer(text, globals=names)
    return lambda: timer.timeit(count) / count * 1e9


def compiled_floor() -> Any:
    """The C extension beside this file, built for this interpreter."""
    folder = tempfile.mkdtemp(prefix="l1d-bench-")
    target = f"{folder}/floor.so"
    include = sysconfig.get_paths()["include"]
    command = ["cc", "-O2", "-shared", "-fPIC", f"-I{include}", str(HERE / "floor.c"), "-o", target]
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location("floor", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(folder)
    return module


def own_rows(client: l1d.Client) -> dict[str, Callable[[], float]]:
    """What the goals are about."""
    floor = compiled_floor()
    keys = [f"key:{number}" for number in range(16)]
    client.set_many({key: VALUE for key in keys}, DAY)
    client.set("large", os.urandom(16 << 10), DAY)
    shared = l1d.Cache(client, memo=100, share=True)
    careful = l1d.Cache(client, memo=100)
    shared.set("object", OBJECT, DAY)
    careful.set("text", "long", DAY)
    cached = functools.lru_cache(100)(lambda key: OBJECT)
    key, as_bytes = "key:1", b"key:1"
    loop = asyncio.new_event_loop()
    asynchronous = aio.Client(client)

    async def awaited(count: int) -> float:
        get = asynchronous.get
        timer = timeit.default_timer
        begin = timer()
        for _ in range(count):
            await get(key)
        return (timer() - begin) / count * 1e9

    async def awaited_set(count: int) -> float:
        begin = timeit.default_timer()
        for _ in range(count):
            await asynchronous.set(key, VALUE, DAY)
        return (timeit.default_timer() - begin) / count * 1e9

    def looped(count: int) -> Callable[[], float]:
        text = "for _ in range(count): get(key)"
        timer = timeit.Timer(text, globals={"count": count, "get": client.get, "key": key})
        return lambda: timer.timeit(1) / count * 1e9

    return {
        "an empty statement": statement("pass", 20_000),
        "C extension call, 64 fresh bytes": statement("f(k)", 20_000, f=floor.fresh, k=key),
        "native read": lambda: client._time_peeks(key, 20_000),
        "get, str key": statement("f(k)", 20_000, f=client.get, k=key),
        "get, bytes key": statement("f(k)", 20_000, f=client.get, k=as_bytes),
        "lru_cache": statement("f(k)", 20_000, f=cached, k="object"),
        "memo, share=True": statement("f(k)", 20_000, f=shared.get, k="object"),
        "memo, share=False, of a str": statement("f(k)", 20_000, f=careful.get, k="text"),
        "memo, share=False, of a dict": statement("f(k)", 5_000, f=careful.get, k="object"),
        "json.loads of that dict": per_call(
            functools.partial(json.loads, json.dumps(OBJECT).encode()), 5_000
        ),
        "get in a loop": looped(20_000),
        "await get": lambda: loop.run_until_complete(awaited(10_000)),
        "16 gets": statement("[c.get(k) for k in ks]", 3_000, c=client, ks=keys),
        "get_many of 16": statement("f(ks)", 3_000, f=client.get_many, ks=keys),
        "16 KiB of fresh bytes": statement("f(k)", 3_000, f=floor.fresh_16k, k=key),
        "get of 16 KiB": statement("f(k)", 3_000, f=client.get, k="large"),
        "set, from Rust": lambda: client._time_sets("written", VALUE, 2_000),
        "set": statement("f(k, v)", 2_000, f=client.set, k="written", v=VALUE),
        "await set": lambda: loop.run_until_complete(awaited_set(1_000)),
    }


# What is compared: the row, its yardstick (rows that are added up), and the goal of their ratio.
GOALS: list[tuple[str, tuple[str, ...], float | None]] = [
    ("get, str key", ("C extension call, 64 fresh bytes", "native read"), 1.3),
    ("get, bytes key", ("C extension call, 64 fresh bytes", "native read"), 1.3),
    ("memo, share=True", ("lru_cache",), 1.2),
    ("memo, share=False, of a str", ("lru_cache",), None),
    ("memo, share=False, of a dict", ("json.loads of that dict",), None),
    ("await get", ("get in a loop",), 4.0),
    ("get_many of 16", ("16 gets",), 0.6),
    ("get of 16 KiB", ("16 KiB of fresh bytes",), 1.15),
    ("set", ("set, from Rust",), 1.3),
    ("await set", ("set",), None),
]


def rivals(
    stack: contextlib.ExitStack,
) -> dict[str, tuple[bool, Callable[[], float], Callable[[], float]]]:
    """Other caches: whether processes share them, and the cost of a get and a set of 64 bytes."""
    found: dict[str, tuple[bool, Callable[[], float], Callable[[], float]]] = {}
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="l1d-bench-"))

    def add(name: str, shared: bool, get: Any, put: Any, count: int) -> None:
        put("key:1", VALUE)
        assert bytes(get("key:1")) == VALUE, name
        found[name] = (
            shared,
            statement("f(k)", count, f=get, k="key:1"),
            statement("f(k, v)", max(count // 10, 100), f=put, k="key:1", v=VALUE),
        )

    def add_lmdb() -> None:
        import lmdb

        environment = lmdb.open(f"{folder}/lmdb", map_size=1 << 26, sync=False)

        def get(key: str) -> Any:
            with environment.begin() as transaction:
                return transaction.get(key.encode())

        def put(key: str, value: bytes) -> None:
            with environment.begin(write=True) as transaction:
                transaction.put(key.encode(), value)

        add("lmdb", True, get, put, 5_000)

    def add_diskcache() -> None:
        import diskcache

        cache = stack.enter_context(diskcache.Cache(f"{folder}/diskcache"))
        add("diskcache", True, cache.get, cache.set, 1_000)

    def add_ultradict() -> None:
        from UltraDict import UltraDict

        shared = UltraDict(name=f"l1d-bench-{os.getpid()}", size=1 << 20)
        stack.callback(shared.unlink)
        add("UltraDict", True, shared.__getitem__, shared.__setitem__, 2_000)

    def add_warp_cache() -> None:
        import warp_cache

        # It keeps results of functions, and has no set.
        @warp_cache.cache(max_size=1000, backend="shared")
        def fetched(key: str) -> bytes:
            return VALUE

        assert fetched("key:1") == VALUE
        read = statement("f(k)", 5_000, f=fetched, k="key:1")
        found["warp-cache, shared"] = (True, read, lambda: float("nan"))

    def add_servers() -> None:
        import pymemcache
        import redis

        memcached, server = f"{folder}/memcached", f"{folder}/redis"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        for command in (
            ["memcached", "-s", memcached, "-u", "nobody"],
            ["redis-server", "--port", "0", "--unixsocket", server, "--save", ""],
        ):
            os.chmod(folder, 0o777)
            process = subprocess.Popen(command, **quiet)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for path in (memcached, server):
            while not os.path.exists(path):
                pass
        client = pymemcache.Client(memcached)
        add(
            "pymemcache, unix socket",
            True,
            client.get,
            functools.partial(client.set, noreply=False),
            1_000,
        )
        other = redis.Redis(unix_socket_path=server)
        add("redis-py, unix socket", True, other.get, other.set, 1_000)

    def add_in_process() -> None:
        import cachebox
        import cachetools

        box = cachebox.TTLCache(1000, 60)
        add("cachebox TTLCache (one process)", False, box.__getitem__, box.__setitem__, 20_000)
        tools = cachetools.TTLCache(1000, 60)
        add("cachetools TTLCache (one process)", False, tools.__getitem__, tools.__setitem__, 5_000)

    for adding in (
        add_lmdb,
        add_diskcache,
        add_ultradict,
        add_warp_cache,
        add_servers,
        add_in_process,
    ):
        try:
            adding()
        except Exception as error:
            print(f"left out: {adding.__name__[4:]}: {error!r}", file=sys.stderr)
    return found


# How long these take depends on where malloc puts the copy, as seen from its source.
PLACED = ("16 KiB of fresh bytes", "get of 16 KiB")


def least(rows: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The least of each row, or the median of those in `PLACED`, the rows in turns."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    draw = random.Random(rounds)
    for number in range(rounds):
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr)
        # Copies are elsewhere in each round.
        spacers = [bytes(1000 + 16 * draw.randrange(256)) for _ in range(3)]
        for name, measure in rows.items():
            taken[name].append(measure())
        del spacers
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr)
    return {
        name: statistics.median(times) if name in PLACED else min(times)
        for name, times in taken.items()
    }


def machine() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':')[1].strip()}, {os.cpu_count()} CPUs"
    return platform.machine()


def tables(own: dict[str, float], others: dict[str, tuple[bool, float, float]]) -> str:
    lines = ["| what | ns | against | ns | ratio | goal |", "|---|---|---|---|---|---|"]
    for name, yardsticks, goal in GOALS:
        against = sum(own[yardstick] for yardstick in yardsticks)
        ratio = own[name] / against
        said = "stated" if goal is None else f"{goal} ({'reached' if ratio <= goal else 'missed'})"
        lines.append(
            f"| {name} | {own[name]:.0f} | {' + '.join(yardsticks)} | {against:.0f}"
            f" | {ratio:.2f} | {said} |"
        )
    lines += ["", "| cache | processes share it | get, ns | set, ns |", "|---|---|---|---|"]
    for name, (shared, get, put) in sorted(others.items(), key=lambda row: row[1][1]):
        said = f"{put:.0f}" if math.isfinite(put) else "—"
        lines.append(f"| {name} | {'yes' if shared else 'no'} | {get:.0f} | {said} |")
    return "\n".join(lines) + "\n"


def plot(others: dict[str, tuple[bool, float, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot

    matplotlib.rcParams["svg.hashsalt"] = "l1d"
    rows = sorted(others.items(), key=lambda row: -row[1][1])
    figure, axes = pyplot.subplots(figsize=(8, 0.4 * len(rows) + 1))
    colours = [
        "#2a7" if name == "l1d" else "#58a" if shared else "#bbb" for name, (shared, *_) in rows
    ]
    bars = axes.barh([name for name, _ in rows], [get for _, (_, get, _) in rows], color=colours)
    axes.bar_label(bars, fmt="%.0f ns", padding=3)
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel("a get of 64 bytes, ns (logarithmic); grey: one process only")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30, help="rounds of each row (default: 30)")
    parser.add_argument("--record", action="store_true", help="write RESULTS.md and results.svg")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(table_size="64MiB"))
        server.start()
        client = server.client()
        own = own_rows(client)
        others = rivals(stack)
        rows = dict(own)
        rows.update({f"get {name}": get for name, (_, get, _) in others.items()})
        rows.update({f"set {name}": put for name, (_, _, put) in others.items()})
        best = least(rows, arguments.rounds)
    measured = {
        name: (shared, best[f"get {name}"], best[f"set {name}"])
        for name, (shared, _, _) in others.items()
    }
    measured["l1d"] = (True, best["get, str key"], best["set"])
    measured["lru_cache (one process)"] = (False, best["lru_cache"], float("nan"))
    if arguments.json:
        print(json.dumps(best, indent=1))
        return
    text = tables({name: best[name] for name in own}, measured)
    print(text)
    if arguments.record:
        python = f"{platform.python_implementation()} {platform.python_version()}"
        head = (
            "# What calls from Python cost\n\n"
            f"`./dev python-bench --record`, {python}, {machine()}. Least of"
            f" {arguments.rounds} interleaved rounds, the loop included; of 16 KiB the median, the"
            " copy elsewhere in each round.\n\n"
        )
        (HERE / "RESULTS.md").write_text(head + text + "\n![a get of 64 bytes](results.svg)\n")
        plot(measured, HERE / "results.svg")


if __name__ == "__main__":
    main()
