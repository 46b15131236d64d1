"""The client of bytes."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

import l1d


def test_reads_and_writes(l1d_client):
    stored = l1d_client.set("k", b"value")
    assert stored and not stored.degraded and stored.token == stored.version
    assert l1d_client.get("k") == b"value" == l1d_client.peek("k") == l1d_client["k"]
    assert l1d_client.get(b"k") == b"value", "str stands for its UTF-8"
    assert "k" in l1d_client and "other" not in l1d_client
    assert l1d_client.get("other") is None and l1d_client.get("other", 7) == 7
    assert l1d_client.get("other", default=8) == 8 == l1d_client.peek("other", default=8)
    with pytest.raises(KeyError, match="other"):
        l1d_client["other"]
    found = l1d_client.lookup("k")
    assert (found.value, found.flags, found.version) == (b"value", 0, stored.version)
    assert found.source == "table" and found.token == stored.token
    assert l1d_client.lookup("other") is l1d.UNKNOWN and not l1d.UNKNOWN
    assert l1d_client.get_meta("other") is None
    deleted = l1d_client.delete("k")
    assert deleted and deleted.existed and not l1d_client.delete("k")
    assert l1d_client.get("k") is None


@pytest.mark.parametrize("size", [0, 1, 64, 4096, 100_000])
def test_values_of_all_sizes_come_back(l1d_client, size):
    value = os.urandom(size)
    l1d_client.set("k", value, flags=5)
    assert l1d_client.get("k") == value
    assert l1d_client.get_meta("k").flags == 5
    assert l1d_client.get_many(["k"]) == [value]
    assert l1d_client.read_with("k", lambda view: view.read(0, len(view))) == value


@pytest.mark.parametrize(
    "value", [bytearray(b"abc"), memoryview(b"abc"), memoryview(b"xabcx")[1:4]]
)
def test_a_value_is_anything_bytes_like(l1d_client, value):
    l1d_client.set("k", value)
    l1d_client.set_many({"m": value})
    assert l1d_client.get_many(["k", "m"]) == [b"abc", b"abc"]


def test_many_keys(l1d_client):
    keys = [f"k{i}" for i in range(300)]
    l1d_client.set_many({key: key.encode() for key in keys[::2]}, ttl=60)
    l1d_client.set_many((key, b"") for key in ["empty"])
    expected = [key.encode() if i % 2 == 0 else None for i, key in enumerate(keys)]
    assert l1d_client.get_many(keys) == expected
    assert l1d_client.get_many(tuple(keys)) == expected == l1d_client.get_many(iter(keys))
    assert l1d_client.get_many(keys[:2] + [b"empty"], b"?") == [b"k0", b"?", b""]
    assert l1d_client.get_dict(keys) == {key: key.encode() for key in keys[::2]}
    assert l1d_client.get_many([]) == []
    assert l1d_client.delete_many(keys) == 150
    assert l1d_client.get_dict(keys) == {}
    l1d_client.set("gone", b"x")
    l1d_client.set_many({"gone": b"x"}, ttl=0)
    assert l1d_client.get("gone") is None


def test_what_fails_of_many_is_told_by_key(l1d_client):
    huge = bytes(2 << 20)
    with pytest.raises(l1d.SomeFailed) as failed:
        l1d_client.set_many([("a", b"1"), ("huge", huge), (b"b", b"2"), ("", b"3")])
    assert set(failed.value.errors) == {"huge", ""}
    assert all(isinstance(error, l1d.TooLarge) for error in failed.value.errors.values())
    assert "2 of 4 keys failed" in str(failed.value)
    assert l1d_client.get_many(["a", "b"]) == [b"1", b"2"]
    again = pickle.loads(pickle.dumps(failed.value))
    assert str(again) == str(failed.value)


def test_operations(l1d_client):
    assert l1d_client.add("k", b"1", 60)
    assert l1d_client.add("k", b"2") is None
    assert l1d_client.replace("none", b"2") is None
    replaced = l1d_client.replace("k", b"2")
    assert l1d_client.cas("k", replaced.token, b"3")
    assert l1d_client.cas("k", replaced.token, b"4") is None
    assert l1d_client.append("k", b">") and l1d_client.prepend("k", b"<")
    assert l1d_client.get("k") == b"<3>"
    assert l1d_client.append("none", b"") is None
    assert not l1d_client.delete_if("k", replaced.token)
    assert l1d_client.delete_if("k", l1d_client.lookup("k").token)
    assert l1d_client.incr("n") is None
    assert l1d_client.incr("n", initial=10) == 10
    assert l1d_client.incr("n", 5) == 15 and l1d_client.decr("n", 20) == -5
    assert l1d_client.get("n") == b"-5"
    l1d_client.set("n", str(2**63 - 1).encode())
    with pytest.raises(l1d.Refused):
        l1d_client.incr("n")
    assert l1d_client.touch("n", 60) and not l1d_client.touch("none", 60)
    assert l1d_client.get_and_touch("n", 60) == str(2**63 - 1).encode()
    assert l1d_client.get_and_touch("none", 60) is None
    with pytest.raises(ValueError, match="token"):
        l1d_client.cas("n", 0, b"")


@pytest.mark.parametrize("ttl", [0.15, timedelta(milliseconds=150)])
def test_a_value_ends_with_its_life(l1d_client, ttl):
    l1d_client.set("k", b"x", ttl)
    l1d_client.set_many({"m": b"x"}, ttl)
    l1d_client.add("a", b"x", ttl)
    l1d_client.incr("n", initial=1, ttl=ttl)
    assert l1d_client.get_many(["k", "m", "a", "n"]) == [b"x", b"x", b"x", b"1"]
    end = time.monotonic() + 10
    while any(l1d_client.get_many(["k", "m", "a", "n"])):
        assert time.monotonic() < end


def test_lives(l1d_client):
    l1d_client.set("k", b"x", l1d.FOREVER)
    l1d_client.set("k", b"x", 10**9)
    l1d_client.set("k", b"x", None)
    assert l1d_client.get("k") == b"x"
    assert l1d_client.set("k", b"x", 10).shortened_to is None
    assert l1d_client.set("k", b"x", 10**9).shortened_to == 86_400, "the daemon's ttl_max"
    for zero in (0, 0.0, timedelta(0)):
        l1d_client.set("k", b"x")
        l1d_client.set("k", b"y", zero)
        assert l1d_client.get("k") is None, "0 means: do not keep"
    for wrong in (-1, -0.001, float("nan"), float("inf"), 10**400, timedelta(-1)):
        with pytest.raises(ValueError, match="ttl"):
            l1d_client.set("k", b"x", wrong)
    for wrong in (True, "5", b"5", object(), l1d.ABSENT):
        with pytest.raises(TypeError, match="ttl"):
            l1d_client.set("k", b"x", wrong)
    assert l1d_client.get("k") is None, "a refused call has changed nothing"


@pytest.mark.parametrize("key", [1, None, 1.5, ["k"], bytearray(b"k"), memoryview(b"k"), object()])
def test_a_key_of_another_type_is_refused_by_every_method(l1d_client, key):
    calls = every_call(l1d_client, key)
    for call in calls:
        with pytest.raises(TypeError, match="key"):
            call()


@pytest.mark.parametrize(
    "key", ["", b"", "x" * 65_001, "é" * 40_000], ids=["no", "none", "long", "wide"]
)
def test_a_key_of_no_or_too_many_bytes_is_refused(l1d_client, key):
    assert l1d_client.peek(key) is None
    for call in every_call(l1d_client, key):
        with pytest.raises((l1d.TooLarge, l1d.SomeFailed)):
            call()


def test_a_key_without_utf8_is_refused(l1d_client):
    for call in every_call(l1d_client, "\ud800"):
        with pytest.raises(UnicodeEncodeError):
            call()


def every_call(client, key):
    """A call of each method that takes a key and asks the daemon."""
    return [
        lambda: client.get(key),
        lambda: client.lookup(key),
        lambda: client.get_meta(key),
        lambda: client.get_many([key]),
        lambda: client.get_dict([key]) if not isinstance(key, list) else client.get(key),
        lambda: client.read_with(key, len),
        lambda: client.set(key, b""),
        lambda: client.set_many([(key, b"")]),
        lambda: client.delete(key),
        lambda: client.delete_many([key]),
        lambda: client.add(key, b""),
        lambda: client.replace(key, b""),
        lambda: client.cas(key, 1, b""),
        lambda: client.append(key, b""),
        lambda: client.prepend(key, b""),
        lambda: client.delete_if(key, 1),
        lambda: client.incr(key),
        lambda: client.decr(key),
        lambda: client.touch(key, 1),
        lambda: client.get_and_touch(key, 1),
        lambda: client.get_or_load(key, lambda: b""),
        lambda: client.reserve(key),
        lambda: client[key],
        lambda: key in client,
    ]


@pytest.mark.parametrize("value", ["text", 1, None, [1, 2], object(), {"a": 1}])
def test_a_value_that_is_no_bytes_is_refused(l1d_client, value):
    for call in (
        lambda: l1d_client.set("k", value),
        lambda: l1d_client.set_many({"k": value}),
        lambda: l1d_client.add("k", value),
        lambda: l1d_client.append("k", value),
        lambda: l1d_client.get_or_load("k", lambda: value),
    ):
        with pytest.raises(TypeError, match="bytes-like"):
            call()
    assert l1d_client.get("k") is None


def test_wrong_arguments(l1d_client):
    for call in (
        lambda: l1d_client.get(),
        lambda: l1d_client.get("k", 1, 2),
        lambda: l1d_client.get(key="k"),
        lambda: l1d_client.get("k", other=1),
        lambda: l1d_client.get("k", 1, default=2),
        lambda: l1d_client.peek(),
        lambda: l1d_client.get_many("abc"),
        lambda: l1d_client.get_many(b"abc"),
        lambda: l1d_client.get_many(5),
        lambda: l1d_client.delete_many("abc"),
        lambda: l1d_client.set_many({"k": b""}, flags="1"),
        lambda: l1d_client.set_many(["pair"]),
        lambda: l1d_client.incr("k", 1.5),
        lambda: l1d.Client.get(object(), "k"),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    for flags in (-1, 2**32):
        with pytest.raises(OverflowError):
            l1d_client.set("k", b"", flags=flags)
    with pytest.raises(ValueError, match="write mode"):
        l1d_client.set("k", b"", write="somehow")
    for option in ("deadline", "attach_deadline", "spin"):
        with pytest.raises(ValueError, match=option):
            l1d.Client("/nowhere", lazy=True, **{option: -1.0})


def test_a_prefix_is_joined_everywhere(l1d_server):
    plain = l1d_server.client()
    client = l1d_server.client(prefix="app:")
    assert client.prefix == b"app:"
    client.set("k", b"1")
    client.set_many({"m": b"2"})
    client.incr("n", initial=3)
    assert plain.get_many(["app:k", "app:m", "app:n"]) == [b"1", b"2", b"3"]
    assert client.get_many(["k", b"m", "n"]) == [b"1", b"2", b"3"]
    assert client.get_dict(["k"]) == {"k": b"1"}
    assert client.peek("k") == client.lookup("k").value == client["k"] == b"1"
    inner = client.with_prefix(b"x" * 600)
    inner.set("long", b"4")
    assert plain.get(b"app:" + b"x" * 600 + b"long") == b"4" == inner.get("long")
    plain.set("k", b"other")
    client.flush("k")
    assert client.get_many(["k", "m"]) == [None, b"2"] and plain.get("k") == b"other"
    client.flush()
    assert client.get("m") is None and plain.get("k") == b"other"


def test_a_view_shows_parts_and_ends_with_its_call(l1d_client):
    l1d_client.set("k", bytes(range(100)))
    kept = []

    def look(view):
        kept.append(view)
        with pytest.raises(IndexError):
            view.read(99, 2)
        with pytest.raises(IndexError):
            view[100]
        with pytest.raises(TypeError):
            view[::2]
        return len(view), view[1], view[-1], view[10:12], view.read(98, 2), view[:0], view[50:500]

    expected = (100, 1, 99, b"\n\x0b", b"bc", b"", bytes(range(50, 100)))
    assert l1d_client.read_with("k", look) == expected
    with pytest.raises(RuntimeError, match="ends with the call"):
        kept[0].read(0, 1)
    assert l1d_client.read_with("none", look) is None
    with pytest.raises(ZeroDivisionError):
        l1d_client.read_with("k", lambda view: 1 / 0)


def test_a_view_is_of_its_thread_only(l1d_client):
    l1d_client.set("k", b"abc")
    raised = []

    def look(view):
        def other():
            try:
                view.read(0, 1)
            except RuntimeError as error:
                raised.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    l1d_client.read_with("k", look)
    assert "thread" in raised[0]


def test_pickling_keeps_the_settings(l1d_server):
    client = l1d_server.client(prefix="p:")
    client.set("k", b"x")
    again = pickle.loads(pickle.dumps(client))
    assert (
        again.get("k") == b"x" and again.prefix == b"p:" and str(again.socket) == l1d_server.socket
    )


def test_the_environment_names_the_socket(l1d_server):
    assert os.environ["L1D_SOCKET"] == l1d_server.socket
    assert str(l1d.Client().socket) == l1d_server.socket


def test_loading(l1d_client):
    assert l1d_client.get_or_load("k", lambda: b"1", 60) == b"1"
    assert l1d_client.get_or_load("k", lambda: b"2") == b"1"
    with pytest.raises(ZeroDivisionError):
        l1d_client.get_or_load("z", lambda: 1 / 0)
    assert l1d_client.get_or_load("z", lambda: b"3") == b"3"
    reservation = l1d_client.reserve("r")
    with pytest.raises(l1d.Busy):
        l1d_client.get_or_load("r", lambda: b"", wait=0.05)
    reservation.fill(b"4", 60)
    assert l1d_client.reserve("r").value == b"4"
    with pytest.raises(l1d.Refused, match="already"):
        reservation.abandon()


def test_a_dropped_reservation_is_given_up(l1d_client):
    reservation = l1d_client.reserve("k")
    del reservation
    gc.collect()
    assert l1d_client.get_or_load("k", lambda: b"1", wait=10) == b"1"


def test_a_forked_child_has_no_part_in_a_reservation(l1d_client):
    reservation = l1d_client.reserve("k")
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(30)
            try:
                reservation.fill(b"child's")
            except l1d.Refused:
                status = 0
            del reservation
            gc.collect()
            l1d_client.set("other", b"x")
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert reservation.fill(b"parent's", 60) and l1d_client.get("k") == b"parent's"


def test_a_reservation_that_was_overtaken_is_refused(l1d_client):
    reservation = l1d_client.reserve("k")
    l1d_client.set("k", b"newer")
    with pytest.raises(l1d.Refused):
        reservation.fill(b"older")
    assert l1d_client.get("k") == b"newer"


def test_waiting_threads_get_one_loaders_value_or_error(l1d_client):
    begun, calls, results = threading.Barrier(8), [], []

    def load(fails):
        calls.append(1)
        time.sleep(0.05)
        if fails:
            raise LookupError("the table is gone")
        return b"loaded"

    def ask(key, fails):
        begun.wait()
        try:
            results.append(l1d_client.get_or_load(key, lambda: load(fails)))
        except (LookupError, l1d.LoadFailed) as error:
            results.append(str(error))

    for key, fails in (("fine", False), ("fails", True)):
        calls.clear(), results.clear()
        threads = [threading.Thread(target=ask, args=(key, fails)) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(results) == 8
        if fails:
            assert all("the table is gone" in result for result in results)
        else:
            assert calls == [1] and set(results) == {b"loaded"}


def test_no_daemon():
    with pytest.raises(l1d.Unavailable, match="/nowhere/l1d.sock") as raised:
        l1d.Client("/nowhere/l1d.sock")
    assert isinstance(raised.value, ConnectionError) and raised.value.is_retryable
    client = l1d.Client("/nowhere/l1d.sock", lazy=True, deadline=0.1)
    assert client.peek("k", 5) == 5
    for call in (lambda: client.get("k"), lambda: client.set("k", b""), lambda: client.stats()):
        with pytest.raises(l1d.Unavailable):
            call()


def test_something_else_answers(tmp_path):
    import socket

    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer():
            connection, _ = listening.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(l1d.Error):
            l1d.Client(path, deadline=2.0)
        thread.join()


def test_a_daemon_of_another_user_is_not_trusted(l1d_server):
    with pytest.raises(l1d.Untrusted):
        l1d_server.client(owner_uid=os.getuid() + 1) if os.getuid() else pytest.skip(
            "root is trusted by everybody"
        )


def test_a_stopped_daemon_costs_a_deadline_and_no_hit(l1d_server):
    client = l1d_server.client()
    client.set("k", b"x", 60)
    waiting = l1d_server.client(deadline=0.1)
    waiting.get("k")
    os.kill(l1d_server.pid, signal.SIGSTOP)
    try:
        assert waiting.get("k") == b"x"
        with pytest.raises(l1d.DeadlineExceeded) as raised:
            waiting.get("missing")
        assert isinstance(raised.value, TimeoutError) and raised.value.is_retryable
        with pytest.raises(l1d.UnknownOutcome) as unknown:
            waiting.set("k", b"y")
        assert not unknown.value.is_retryable
    finally:
        os.kill(l1d_server.pid, signal.SIGCONT)


def test_a_killed_daemon_is_replaced_under_its_client(l1d_server):
    client = l1d_server.client()
    client.set("k", b"x", 60)
    l1d_server.kill()
    assert client.get("k") == b"x", "hits go on without a daemon"
    l1d_server.start()
    client.set("k", b"y", 60)
    assert client.get("k") == b"y"


def test_threads_share_a_client(l1d_client):
    failures = []

    def work(number):
        try:
            for turn in range(300):
                key, value = f"{number}:{turn % 7}", b"%d:%d" % (number, turn)
                l1d_client.set(key, value)
                assert l1d_client.get(key) == value
                assert l1d_client.get_many([key, "none"]) == [value, None]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(24)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures


INTERRUPTED = """
import os, signal, sys, threading, time
import l1d

client = l1d.Client(deadline=60.0)
client.set("k", b"x")
held = client.reserve("held")
pid = int(sys.argv[1])
calls = {
    "get": lambda: client.get("missing"),
    "set": lambda: client.set("k", b"y"),
    "many": lambda: client.get_many(["missing", "k"]),
    "incr": lambda: client.incr("n"),
    "load": lambda: client.get_or_load("held", lambda: b""),
    "delete_many": lambda: client.delete_many(["a", "b", "c"]),
    "set_many": lambda: client.set_many({"a": b"", "b": b""}),
    "set_none": lambda: client.set_many({"a": b"", "b": b""}, 0),
}
call = calls[sys.argv[2]]
if sys.argv[2] != "load":
    os.kill(pid, signal.SIGSTOP)
threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
begin = time.monotonic()
try:
    call()
except KeyboardInterrupt as error:
    cause = type(error.__cause__).__name__
    print(cause, time.monotonic() - begin < 30)
finally:
    os.kill(pid, signal.SIGCONT)
"""


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        ("get", "Interrupted"),
        ("many", "Interrupted"),
        ("set", "UnknownOutcome"),
        ("incr", "UnknownOutcome"),
        ("load", "Interrupted"),
        ("delete_many", "SomeFailed"),
        ("set_many", "SomeFailed"),
        ("set_none", "SomeFailed"),
    ],
)
def test_ctrl_c_ends_a_wait(l1d_server, call, cause):
    command = [sys.executable, "-c", INTERRUPTED, str(l1d_server.pid), call]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [cause, "True"], done.stderr


def test_memory_stays_flat(l1d_client):
    rounds = int(os.environ.get("L1D_OPERATIONS", "200000")) // 10
    l1d_client.set("k", b"x" * 1000, 3600)

    def work(rounds):
        for turn in range(rounds):
            l1d_client.get("k")
            l1d_client.peek(b"k")
            l1d_client.lookup("k")
            l1d_client.get_many(["k", "k"])
            l1d_client.get_dict(["k"])
            l1d_client.read_with("k", len)
            l1d_client.get_meta("k")
            "k" in l1d_client
            l1d_client.get_or_load("k", bytes)
            try:
                l1d_client.get(turn)
            except TypeError:
                pass
            if turn % 50 == 0:
                l1d_client.set("w", b"y" * 1000)
                l1d_client.get("missing")

    def memory():
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    work(2000)
    before = memory()
    work(rounds)
    assert memory() - before < 3000, "kibibytes"


def test_signatures_are_told():
    assert str(inspect.signature(l1d.Client.get)) == "(self, key, /, default=None)"
    assert "ttl=None" in str(inspect.signature(l1d.Client.set))
    undocumented = [
        name
        for name in dir(l1d.Client)
        if not name.startswith("_") and not getattr(l1d.Client, name).__doc__
    ]
    assert not undocumented


def test_a_second_interpreter_of_a_process_is_refused_cleanly():
    code = """
import l1d
try:
    import _interpreters as interpreters
    create = interpreters.create
except ImportError:
    import _xxsubinterpreters as interpreters
    create = interpreters.create
interpreter = create()
try:
    failed = interpreters.run_string(interpreter, "import l1d")
except Exception as error:
    failed = error
text = str(failed)
assert failed is not None and "ubinterpreter" in text + repr(failed), text
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "fine", done.stderr


def test_a_core_dump_has_no_table_and_no_mailbox(l1d_client):
    l1d_client.set("k", b"value")
    dumped, names = [], set()
    with open("/proc/self/smaps", encoding="utf-8") as smaps:
        name = ""
        for line in smaps:
            words = line.split()
            if not words[0].endswith(":"):
                name = words[-1] if len(words) == 6 or "(deleted)" in line else ""
                name = "mailbox" if "memfd:l1d-mailbox" in line else name
            elif words[0] == "VmFlags:" and ("/table" in name or name == "mailbox"):
                names.add(name)
                if "dd" not in words:
                    dumped.append(name)
    assert "mailbox" in names and len(names) >= 2, names
    assert not dumped
