"""The client for asyncio."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import weakref

import pytest

import l1d
from l1d import aio


def uvloop_runner():
    return pytest.importorskip("uvloop").new_event_loop


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on a loop of each kind."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop_runner()

    def run(coroutine):
        loop = factory()
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, 60))
        finally:
            loop.close()

    return run


@pytest.fixture
def client(l1d_client):
    return aio.Client(l1d_client)


def test_the_same_verbs(run, client):
    async def verbs():
        stored = await client.set("k", b"1", 60, flags=3)
        assert await client.get("k") == b"1" == client.peek("k")
        found = await client.lookup("k")
        assert (found.value, found.flags, found.token) == (b"1", 3, stored.token)
        assert await client.get("none", 5) == 5 and await client.get_meta("none") is None
        assert await client.lookup("none") is l1d.UNKNOWN
        assert await client.get_many(["k", "none"], b"?") == [b"1", b"?"]
        assert await client.get_dict(["k", "none"]) == {"k": b"1"}
        assert await client.add("k", b"2") is None and await client.replace("none", b"") is None
        assert await client.cas("k", stored.token, b"2")
        assert await client.cas("k", stored.token, b"3") is None
        assert await client.append("k", b">") and await client.prepend("k", b"<")
        assert await client.get_and_touch("k", 60) == b"<2>" and await client.touch("k", 60)
        assert await client.incr("n", initial=5) == 5 and await client.decr("n", 7) == -2
        assert not await client.delete_if("k", stored.token) and await client.delete("k")
        await client.set_many({f"m{i}": b"%d" % i for i in range(100)})
        assert await client.get_many([f"m{i}" for i in range(100)]) == [
            b"%d" % i for i in range(100)
        ]
        assert await client.delete_many([f"m{i}" for i in range(101)]) == 100
        assert (await client.stats())["daemon"]["pid"] and (await client.explain("k"))["key"]
        assert (await client.policy())["rules"]
        assert await client.with_prefix("p:").set("k", b"x") and await client.get("p:k") == b"x"
        await client.flush()
        assert await client.get("p:k") is None
        with pytest.raises(l1d.SomeFailed) as failed:
            await client.set_many({"": b"", "fine": b"1"})
        assert set(failed.value.errors) == {""} and await client.get("fine") == b"1"
        for wrong in (client.get(5), client.set("k", "text"), client.get_many("abc")):
            with pytest.raises(TypeError):
                await wrong

    run(verbs())


def test_a_hit_does_not_let_others_run(run, client):
    async def hits():
        await client.set("k", b"1", 60)
        turns = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        for _ in range(100):
            assert await client.get("k") == b"1"
        assert not turns

    run(hits())


def test_a_thousand_misses_and_writes_at_once(run, l1d_server_factory, tiers):
    with l1d_server_factory(tiers.config) as server:
        client = aio.Client(server.client())

        async def many():
            keys = [f"thousand:{i}" for i in range(1000)]
            assert await asyncio.gather(*map(client.get, keys)) == [None] * 1000
            await asyncio.gather(*(client.set(key, key.encode()) for key in keys))
            client.sync.flush()
            found = await asyncio.gather(*map(client.get, keys))
            assert found == [key.encode() for key in keys], "each its own answer"
            await client.delete_many(keys)

        run(many())


def test_requests_are_begun_in_their_order(run, client):
    async def counted():
        await client.delete("n")
        counts = await asyncio.gather(*(client.incr("n", initial=0) for _ in range(500)))
        assert counts == list(range(500))

    run(counted())


def test_a_cancelled_request_takes_nobodys_answer(run, l1d_server):
    client = aio.Client(l1d_server.client())

    async def cancelled():
        await client.set_many({f"k{i}": b"%d" % i for i in range(64)})
        for turn in range(30):
            client.sync.flush()
            await client.set_many({f"k{i}": b"%d" % i for i in range(64)})
            os.kill(l1d_server.pid, signal.SIGSTOP)
            waiting = [asyncio.ensure_future(client.lookup(f"miss{i}")) for i in range(40)]
            writing = [asyncio.ensure_future(client.set(f"w{i}", b"%d" % i)) for i in range(40)]
            await asyncio.sleep(0.001)
            for task in waiting[turn % 3 :: 2] + writing[turn % 2 :: 3]:
                task.cancel()
            os.kill(l1d_server.pid, signal.SIGCONT)
            results = await asyncio.gather(*waiting, return_exceptions=True)
            for result in results:
                assert result is l1d.UNKNOWN or isinstance(result, asyncio.CancelledError)
            await asyncio.gather(*writing, return_exceptions=True)
            for i, task in enumerate(writing):
                if not task.cancelled():
                    assert await client.get(f"w{i}") == b"%d" % i
            assert await client.get_many([f"k{i}" for i in range(64)]) == [
                b"%d" % i for i in range(64)
            ]

    run(cancelled())


def test_a_deadline_ends_a_wait(run, l1d_server):
    client = aio.Client(l1d_server.client(deadline=0.2))

    async def late():
        # The first calls attach, which may take longer on a busy machine.
        l1d_server.client().set("k", b"1", 60)
        while await client.get("k") != b"1":
            pass
        os.kill(l1d_server.pid, signal.SIGSTOP)
        try:
            assert await client.get("k") == b"1", "a hit asks nobody"
            reads = (client.get(f"miss{i}") for i in range(40))
            for result in await asyncio.gather(*reads, return_exceptions=True):
                assert isinstance(result, (l1d.DeadlineExceeded, l1d.Busy)), result
            with pytest.raises((l1d.UnknownOutcome, l1d.DeadlineExceeded, l1d.Busy)):
                await client.set("k", b"2")
        finally:
            os.kill(l1d_server.pid, signal.SIGCONT)
        assert await asyncio.wait_for(client.get("miss"), 10) is None

    run(late())


def test_no_daemon(run):
    async def ask():
        client = aio.Client("/nowhere/l1d.sock", deadline=0.2)
        for call in (client.get("k"), client.set("k", b""), client.incr("k"), client.reserve("k")):
            with pytest.raises(l1d.Unavailable):
                await call

    run(ask())


def test_a_killed_daemon_is_followed_by_the_next(run, l1d_server):
    client = aio.Client(l1d_server.client())

    async def killed():
        await client.set("k", b"1", 60)
        l1d_server.kill()
        assert await client.get("k") == b"1"
        await asyncio.to_thread(l1d_server.start)
        await client.set("k", b"2", 60)
        assert await client.get("k") == b"2"

    run(killed())


def test_a_loop_that_is_closed_while_requests_wait(l1d_server):
    client = aio.Client(l1d_server.client())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.set("k", b"1", 60))
    descriptors = len(os.listdir("/proc/self/fd"))
    os.kill(l1d_server.pid, signal.SIGSTOP)
    try:
        tasks = [loop.create_task(client.get(f"miss{i}")) for i in range(40)]
        loop.run_until_complete(asyncio.sleep(0.01))
        for task in tasks:
            task._log_destroy_pending = False
        loop.close()
        gone = weakref.ref(loop)
        del loop, tasks, task
    finally:
        os.kill(l1d_server.pid, signal.SIGCONT)
    gc.collect()
    assert gone() is None, "a hub keeps no loop alive"
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert asyncio.run(client.get("k")) == b"1"
    assert asyncio.run(client.get("miss")) is None


def test_loops_of_several_threads(l1d_client):
    client, failures = aio.Client(l1d_client), []

    async def work(number):
        for turn in range(60):
            keys = [f"{number}:{turn}:{i}" for i in range(10)]
            await asyncio.gather(*(client.set(key, key.encode()) for key in keys))
            assert await client.get_many(keys) == [key.encode() for key in keys]
            assert await asyncio.gather(*(client.get(f"no:{key}") for key in keys)) == [None] * 10

    def thread(number):
        try:
            asyncio.run(asyncio.wait_for(work(number), 60))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures


def test_an_idle_hub_does_not_turn(run, client):
    async def idle():
        await asyncio.gather(*(client.get(f"miss{i}") for i in range(50)))
        before = time.process_time()
        # Answers of other threads' calls make the descriptor readable, too.
        for _ in range(100):
            await asyncio.to_thread(client.sync.get, "miss")
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.25

    run(idle())


def test_a_forked_child_has_a_hub_of_its_own(l1d_server):
    client = aio.Client(l1d_server.client())

    async def parent():
        os.kill(l1d_server.pid, signal.SIGSTOP)
        waiting = asyncio.ensure_future(client.get("miss"))
        await asyncio.sleep(0.01)
        child = os.fork()
        if not child:
            status = 1
            try:
                signal.alarm(30)
                os.kill(l1d_server.pid, signal.SIGCONT)
                # The loop of the parent is not the child's.
                asyncio.events._set_running_loop(None)
                asyncio.run(in_child())
                status = 0
            finally:
                os._exit(status)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert status == 0
        assert await waiting is None
        assert await client.get("child") == b"1"

    async def in_child():
        await client.set("child", b"1", 60)
        assert await client.get("miss") is None

    asyncio.run(asyncio.wait_for(parent(), 60))


def test_loading(run, client):
    async def loads():
        calls = []

        async def load():
            calls.append(1)
            await asyncio.sleep(0.02)
            return b"loaded"

        got = await asyncio.gather(*(client.get_or_load("k", load, 60) for _ in range(20)))
        assert got == [b"loaded"] * 20 and calls == [1]

        async def fail():
            await asyncio.sleep(0.02)
            raise LookupError("no such row")

        failed = await asyncio.gather(
            *(client.get_or_load("f", fail) for _ in range(5)), return_exceptions=True
        )
        assert all("no such row" in str(error) for error in failed)
        assert sum(isinstance(error, LookupError) for error in failed) >= 1
        assert await client.get_or_load("plain", lambda: b"1") == b"1"

    run(loads())


def test_a_cancelled_loader_hands_the_key_on(run, client):
    async def cancelled():
        begun = asyncio.Event()

        async def never():
            begun.set()
            await asyncio.sleep(60)

        first = asyncio.ensure_future(client.get_or_load("k", never))
        await begun.wait()
        second = asyncio.ensure_future(client.get_or_load("k", lambda: b"2", wait=20))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == b"2"

    run(cancelled())


def test_a_reservation_that_comes_after_its_task_was_cancelled_is_given_up(run, l1d_server):
    client = aio.Client(l1d_server.client())

    async def cancelled():
        await client.get("miss")
        os.kill(l1d_server.pid, signal.SIGSTOP)
        reserving = [asyncio.ensure_future(client.reserve(f"r{i}")) for i in range(30)]
        await asyncio.sleep(0.01)
        for task in reserving:
            task.cancel()
        await asyncio.gather(*reserving, return_exceptions=True)
        os.kill(l1d_server.pid, signal.SIGCONT)
        for i in range(30):
            loaded = client.get_or_load(f"r{i}", lambda: b"1", wait=10)
            assert await loaded == b"1"

    run(cancelled())


def test_a_loader_whose_loop_is_gone_hands_the_key_on(l1d_server, recwarn):
    client, raised = aio.Client(l1d_server.client()), []
    sys.unraisablehook, hook = raised.append, sys.unraisablehook
    try:
        loop = asyncio.new_event_loop()

        async def never():
            await asyncio.sleep(60)

        task = loop.create_task(client.get_or_load("k", never))
        loop.run_until_complete(asyncio.sleep(0.1))
        task._log_destroy_pending = False
        loop.close()
        del loop, task
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not raised
    assert l1d_server.client().get_or_load("k", lambda: b"1", wait=10) == b"1"


def test_many_cancelled_loaders_leave_no_key_reserved(run, client):
    async def cancelled():
        async def never():
            await asyncio.sleep(60)

        loading = [asyncio.ensure_future(client.get_or_load(f"k{i}", never)) for i in range(100)]
        await asyncio.sleep(0.1)
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        del loading
        for i in range(100):
            assert await client.get_or_load(f"k{i}", lambda: b"1", wait=10) == b"1"

    run(cancelled())


def test_a_task_that_nobody_holds_goes_on(l1d_server):
    client = aio.Client(l1d_server.client())

    async def forgotten():
        await client.get("miss")
        os.kill(l1d_server.pid, signal.SIGSTOP)
        for i in range(30):
            asyncio.get_running_loop().create_task(client.set(f"k{i}", b"%d" % i))
        await asyncio.sleep(0.02)
        gc.collect()
        os.kill(l1d_server.pid, signal.SIGCONT)
        end = time.monotonic() + 20
        while None in (found := await client.get_many([f"k{i}" for i in range(30)])):
            assert time.monotonic() < end, found
            await asyncio.sleep(0.01)

    asyncio.run(forgotten())


def test_objects(run, l1d_client):
    async def objects(memo):
        cache = aio.Cache(l1d_client, memo=memo, prefix=f"p{memo}:")
        await cache.set("k", {"a": [1]}, 60)
        assert await cache.get("k") == {"a": [1]} == cache.peek("k")
        assert await cache.get("none", 5) == 5 and cache.peek("none", 5) == 5
        await cache.set_many({"m": 1, "o": "x"}, 60)
        assert await cache.get_many(["m", "o", "none"]) == [1, "x", None]
        assert await cache.get_dict(["m", "none"]) == {"m": 1}
        entry = await cache.get_meta("m")
        assert entry.value == 1 and await cache.cas("m", entry.token, 2)
        assert await cache.get("m") == 2
        assert await cache.add("m", 3) is None and await cache.replace("m", 4)
        assert await cache.incr("n", initial=1) == 1 and await cache.decr("n") == 0
        assert await cache.touch("m", 60) and await cache.get_and_touch("m", 60) == 4
        assert await cache.delete("m") and await cache.delete_many(["o"]) == 1
        calls = []

        async def load():
            calls.append(1)
            return [1]

        assert (
            await asyncio.gather(*(cache.get_or_load("l", load, 60) for _ in range(5))) == [[1]] * 5
        )
        assert calls == [1]

    for memo in (0, 10):
        run(objects(memo))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout")
def test_a_timeout_of_the_caller_is_kept(run, l1d_server):
    client = aio.Client(l1d_server.client())

    async def late():
        await client.get("miss")
        os.kill(l1d_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.get("other")
        finally:
            os.kill(l1d_server.pid, signal.SIGCONT)
        assert await client.get("miss") is None

    run(late())
