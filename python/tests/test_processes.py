"""Several processes, and a real service."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import l1d
from conftest import free_port, wait_for_port

METHODS = ["fork", "forkserver", "spawn"]


def race(client, begun, number, results):
    """What each process of a race does."""
    begun.wait(60)
    added = sum(1 for turn in range(50) if client.add(f"add:{turn}", b"%d" % number))
    for _ in range(500):
        client.incr("count", initial=1)

    def load():
        client.incr("loads", initial=1)
        time.sleep(0.05)
        return b"by %d" % number

    loaded = client.get_or_load("loaded", load, wait=60)
    results.put((added, loaded, client.get("mine") == b"parent"))


@pytest.mark.parametrize("method", METHODS)
def test_processes_race(l1d_server, method):
    context = multiprocessing.get_context(method)
    client = l1d_server.client()
    client.set("mine", b"parent", 3600)
    count = 4
    begun, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=race, args=(client, begun, number, results))
        for number in range(count)
    ]
    [process.start() for process in processes]
    outcomes = [results.get(timeout=120) for _ in processes]
    [process.join(60) for process in processes]
    assert sum(added for added, _, _ in outcomes) == 50, "one process adds each key"
    assert len({loaded for _, loaded, _ in outcomes}) == 1 and client.get("loads") == b"1"
    assert client.get("count") == b"%d" % (500 * count)
    assert all(inherited for _, _, inherited in outcomes)


def test_a_fork_while_threads_use_the_client(l1d_server):
    client = l1d_server.client()
    client.set("k", b"x", 3600)
    stop = threading.Event()

    def use():
        while not stop.is_set():
            client.set("busy", b"y")
            client.get("missing")

    threads = [threading.Thread(target=use) for _ in range(3)]
    [thread.start() for thread in threads]
    try:
        for turn in range(10):
            child = os.fork()
            if not child:
                signal.alarm(30)
                right = client.get("k") == b"x" and client.set(f"child:{turn}", b"z", 60)
                os._exit(0 if right else 1)
            assert os.waitpid(child, 0)[1] == 0
            assert client.get(f"child:{turn}") == b"z"
    finally:
        stop.set()
        [thread.join() for thread in threads]


def test_a_signal_handler_that_forks_in_the_middle_of_a_call(l1d_server):
    client = l1d_server.client()
    client.set("k", b"x", 3600)
    children, raised, missing = [], None, b"no answer"
    former = signal.signal(signal.SIGALRM, lambda *_: children.append(os.fork()))
    os.kill(l1d_server.pid, signal.SIGSTOP)
    resume = threading.Timer(1, os.kill, (l1d_server.pid, signal.SIGCONT))
    resume.start()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        missing = client.get("missing")
    except l1d.Error as error:
        raised = error
    signal.signal(signal.SIGALRM, former)
    if children == [0]:
        signal.alarm(30)
        right = isinstance(raised, l1d.SystemFailure) and client.get("k") == b"x"
        os._exit(0 if right and client.set("child", b"z", 60) else 1)
    resume.join()
    assert raised is None and missing is None
    assert os.waitpid(children[0], 0)[1] == 0
    assert client.get("child") == b"z"


def test_a_daemon_killed_under_load(l1d_server):
    client = l1d_server.client(deadline=5.0)
    client.set("k", b"%d" % 0, 3600)
    stop, failures, done = threading.Event(), [], [0]

    def use(number):
        last = -1
        try:
            while not stop.is_set():
                try:
                    value = client.get("k")
                    if number == 0:
                        client.set("k", b"%d" % (last + 1), 3600)
                        last += 1
                        # Without tiers the table is all there is: what it has is the last value.
                        assert client.get("k") == b"%d" % last
                        done[0] += 1
                    assert value is None or value.isdigit()
                except (l1d.Unavailable, l1d.DeadlineExceeded, l1d.Busy):
                    pass
                except l1d.UnknownOutcome:
                    last = int(client.get("k") or -1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    try:
        for _ in range(5):
            before = done[0]
            end = time.monotonic() + 30
            while done[0] < before + 20 and time.monotonic() < end and not failures:
                time.sleep(0.005)
            l1d_server.kill()
            l1d_server.start()
    finally:
        stop.set()
        [thread.join() for thread in threads]
    assert not failures and done[0] >= 100


SERVICE = Path(__file__).parent / "service"


def test_a_monitor_and_the_workers_of_a_preloaded_service(l1d_server):
    pytest.importorskip("gunicorn")
    pytest.importorskip("uvicorn_worker")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "4", "--bind"]
    command += [f"127.0.0.1:{port}", "-k", "uvicorn_worker.UvicornWorker", "app:app"]
    server = subprocess.Popen(command, cwd=SERVICE, stderr=subprocess.PIPE)
    monitor = subprocess.Popen(
        [sys.executable, str(SERVICE / "monitor.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(path):
        with urllib.request.urlopen(address + path, timeout=30) as answer:
            return json.load(answer)

    try:
        wait_for_port(port, server)
        with ThreadPoolExecutor(8) as pool:
            pids = set()
            for number in range(1, 30):
                monitor.stdin.write(f"{number}\n")
                monitor.stdin.flush()
                assert monitor.stdout.readline() == "written\n"
                # Whichever workers answer: none of them shows an older number.
                answers = list(pool.map(ask, ["/signals"] * 8))
                assert {answer["signals"] for answer in answers} == {number}
                pids |= {answer["pid"] for answer in answers}
            assert len(pids) > 1
            reports = list(pool.map(ask, ["/report/daily"] * 16))
            assert reports == [{"report": 5}] * 16
            visits = list(pool.map(ask, ["/visit"] * 40))
            assert sorted(visit["visits"] for visit in visits) == list(range(1, 41))
        assert l1d_server.client().get("service:computed") == b"1", "once for all workers"
    finally:
        server.terminate()
        monitor.kill()
        _, log = server.communicate(timeout=60)
        monitor.communicate()
    assert b"Traceback" not in log, log.decode()
