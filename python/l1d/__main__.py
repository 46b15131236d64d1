"""``python -m l1d serve|demo|ctl ...``: runs the package's programs."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from ._programs import ProgramMissing, find

USAGE = """\
usage: python -m l1d COMMAND [ARGUMENTS]

  serve         own the table and serve this host's processes (l1d serve)
  demo          l1d beside a cache in each process (l1d demo); with --python: in Python, in a second
  ctl           ask the daemon: get, set, stats, explain, ... (l1ctl)
  check-config  check a configuration file (l1d check-config)

Each takes --help. The package has these programs itself: l1d and l1ctl.
"""

_MISUSED = 2
_NOT_FOUND = 127


def main(arguments: list[str]) -> NoReturn:
    """Becomes the program that the first argument stands for; the others go to it."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else _MISUSED)
    if arguments == ["demo", "--python"]:
        _demo_in_python()
    command, *rest = arguments
    name, rest = ("l1ctl", rest) if command == "ctl" else ("l1d", [command, *rest])
    try:
        program = find(name)
    except ProgramMissing as missing:
        _explain(missing)
    os.execv(program, [name, *rest])


def _demo_in_python() -> NoReturn:
    from . import _demo

    try:
        sys.exit(_demo.run())
    except ProgramMissing as missing:
        _explain(missing)


def _explain(missing: ProgramMissing) -> NoReturn:
    print(f"l1d: {missing}", file=sys.stderr)
    sys.exit(_NOT_FOUND)


if __name__ == "__main__":
    main(sys.argv[1:])
