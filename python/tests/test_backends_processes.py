"""Backends in several processes: nothing is lost, one wins, and all see it."""

from __future__ import annotations

import itertools
import multiprocessing
import time

import pytest
from backend_faces import (
    AsyncDjango,
    Django,
    Dogpile,
    every_backend,
    every_counting_backend,
    made,
)

PATIENCE = 60.0
fork = multiprocessing.get_context("fork")


def in_processes(count, work):
    """The results of `work(number)` in forked processes, which begin at the same time."""
    barrier, answers = fork.Barrier(count), fork.SimpleQueue()

    def child(number):
        barrier.wait(PATIENCE)
        answers.put(work(number))

    children = [fork.Process(target=child, args=(number,)) for number in range(count)]
    for process in children:
        process.start()
    for process in children:
        process.join(PATIENCE)
        assert process.exitcode == 0
    return [answers.get() for _ in children]


@every_counting_backend
def test_no_count_is_lost(face, l1d_server):
    cache = made(face, l1d_server.socket)
    cache.incr("before", 1)  # The children inherit a cache in use.

    def count(_):
        return [cache.incr("counter") for _ in range(200)]

    counts = in_processes(3, count)
    assert sorted(itertools.chain(*counts)) == list(range(1, 601))


class Words:
    """Numbers as text that is no decimal, so that the daemon cannot count."""

    def dumps(self, value):
        return f"number {value}"

    def loads(self, data):
        return int(data.split()[1])


def test_no_count_is_lost_with_a_serializer_without_decimals(l1d_server):
    cache = made(Django, l1d_server.socket, serializer=Words())
    cache.cache.set("counter", 0)

    def count(_):
        return [cache.cache.incr("counter") for _ in range(100)]

    counts = in_processes(3, count)
    assert sorted(itertools.chain(*counts)) == list(range(1, 301))


@every_counting_backend
def test_one_of_several_adds(face, l1d_server):
    cache = made(face, l1d_server.socket)
    for key in ("a", "b", "c"):
        added = in_processes(3, lambda number, key=key: bool(cache.add(key, f"from {number}")))
        assert sum(added) == 1
        assert cache.get(key).startswith("from ")


@every_backend
def test_what_one_process_writes_the_others_read_next(face, l1d_server):
    cache = made(face, l1d_server.socket)
    turns = [fork.Semaphore(1), fork.Semaphore(0)]

    def write_in_turns(own):
        for step in range(own, 20, 2):
            assert turns[own].acquire(timeout=PATIENCE)
            if step:
                assert cache.get("key") == f"step {step - 1}"
            cache.set("key", f"step {step}")
            turns[1 - own].release()
        return True

    assert in_processes(2, write_in_turns) == [True, True]
    assert cache.get("key") == "step 19"


@pytest.mark.parametrize("face", [Django, AsyncDjango])
def test_one_process_computes_for_all(face, l1d_server):
    import asyncio

    cache = made(face, l1d_server.socket)
    cache.set("before", "value")
    computed = fork.Value("i", 0)

    def compute():
        with computed.get_lock():
            computed.value += 1
        time.sleep(0.2)
        return "result"

    def ask(_):
        if face is AsyncDjango:
            return asyncio.run(cache.cache.aget_or_set("key", compute))
        return cache.cache.get_or_set("key", compute)

    assert in_processes(3, ask) == ["result"] * 3
    assert computed.value == 1


def test_one_process_creates_for_all_in_dogpile(l1d_server):
    cache = made(Dogpile, l1d_server.socket)
    created = fork.Value("i", 0)

    def create():
        with created.get_lock():
            created.value += 1
        time.sleep(0.2)
        return "result"

    assert in_processes(3, lambda _: cache.region.get_or_create("key", create)) == ["result"] * 3
    assert created.value == 1


def test_the_lock_of_a_process_that_died_ends_with_its_lease(l1d_server, caplog):
    cache = made(Dogpile, l1d_server.socket, lock_lease=0.3)
    mutex = cache.cache.get_mutex("key")

    def take(_):
        return cache.cache.get_mutex("key").acquire(wait=False)

    assert in_processes(1, take) == [True]
    assert not mutex.acquire(wait=False)
    begun = time.monotonic()
    assert mutex.acquire()
    assert time.monotonic() - begun < 5
    mutex.release()
    assert not mutex.locked()
    # A holder that lost the lock to its lease does not take it from the next one.
    late, next_one = cache.cache.get_mutex("key"), cache.cache.get_mutex("key")
    assert late.acquire()
    assert next_one.acquire()
    late.release()
    assert next_one.locked()
    assert "longer than lock_lease" in caplog.text
