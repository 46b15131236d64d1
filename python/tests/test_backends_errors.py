"""Backends whose daemon is gone or does not answer: reads are misses, writes raise."""

from __future__ import annotations

import logging
import os
import signal
from types import SimpleNamespace

import pytest
from backend_faces import every_backend, every_counting_backend, made

import l1d
from l1d.backends import _reads


@every_backend
def test_reads_of_a_daemon_that_is_gone_are_counted_misses_and_hits_go_on(face, l1d_server, caplog):
    cache = made(face, l1d_server.socket, attach_deadline=0.1)
    cache.set("here", "value")
    l1d_server.kill()
    before = cache.failed_reads
    with caplog.at_level(logging.WARNING, "l1d"):
        assert cache.get("here") == "value"
        assert cache.failed_reads == before
        assert cache.get("elsewhere") is None
        assert cache.get_many(["here", "elsewhere"])[1] is None
    assert cache.failed_reads >= before + 2
    lines = [record.getMessage() for record in caplog.records if record.name == "l1d"]
    assert len(lines) == 1, lines
    assert "no l1d daemon answers" in lines[0]


@every_backend
def test_reads_raise_if_asked_to(face, l1d_server):
    cache = made(face, l1d_server.socket, attach_deadline=0.1, on_error="raise")
    cache.set("here", "value")
    l1d_server.kill()
    assert cache.get("here") == "value"
    with pytest.raises(l1d.Unavailable):
        cache.get("elsewhere")


@every_backend
def test_a_daemon_that_never_was(face, tmp_path):
    cache = made(face, str(tmp_path / "none.sock"), attach_deadline=0.1)
    assert cache.get("key") is None
    with pytest.raises(l1d.Unavailable):
        cache.set("key", "value")


@every_backend
def test_writes_of_a_daemon_that_is_gone_raise(face, l1d_server):
    cache = made(face, l1d_server.socket, attach_deadline=0.1)
    cache.set("key", "old")
    l1d_server.kill()
    with pytest.raises(l1d.Error):
        cache.set("key", "new")
    with pytest.raises(l1d.Error):
        cache.delete("key")
    assert cache.get("key") == "old"


@every_counting_backend
def test_adding_and_counting_raise_if_the_daemon_is_gone(face, l1d_server):
    cache = made(face, l1d_server.socket, attach_deadline=0.1)
    cache.set("key", "old")
    l1d_server.kill()
    with pytest.raises(l1d.Error):
        cache.add("new", "value")
    with pytest.raises(l1d.Error):
        cache.incr("counter")


@every_backend
def test_a_delete_whose_outcome_is_unknown_raises(face, l1d_server):
    cache = made(face, l1d_server.socket, deadline=0.3)
    cache.set("key", "old")
    os.kill(l1d_server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(l1d.UnknownOutcome):
            cache.delete("key")
        # A read that gets no answer is still a miss.
        assert cache.get("elsewhere") is None
    finally:
        os.kill(l1d_server.pid, signal.SIGCONT)


def test_one_line_a_minute_tells_of_all_failures_since(monkeypatch, caplog):
    now = 1000.0
    monkeypatch.setattr(_reads, "time", SimpleNamespace(monotonic=lambda: now))
    reads = _reads.FailedReads("miss")
    with caplog.at_level(logging.WARNING, "l1d"):
        for now in (1000.0, 1030.0, 1059.9, 1060.0, 1100.0, 1120.1):
            reads.take(l1d.Unavailable("gone"))
    counts = [record.args[0] for record in caplog.records]
    assert counts == [1, 3, 2]
    assert reads.count == 6


def test_options_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match="on_error"):
        _reads.FailedReads("ignore")
