"""The monitoring process: writes each number that it reads, and says so."""

import sys

import l1d

cache = l1d.Cache()
for line in sys.stdin:
    cache.set("analysis:signals", int(line))
    print("written", flush=True)
