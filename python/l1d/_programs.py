"""The programs that the package brings: the daemon `l1d` and the tool `l1ctl`."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PROGRAM_VARIABLE = "L1D_PROGRAM"
"""Names the daemon's program, if another than the package's is to run; `l1ctl` is beside it."""


class ProgramMissing(FileNotFoundError):
    """A program is neither in the package nor on PATH."""


def find(name: str) -> str:
    """The path of `l1d` or `l1ctl`: where L1D_PROGRAM says, or where pip put it, or on PATH.

    Raises :class:`ProgramMissing`.
    """
    named = os.environ.get(PROGRAM_VARIABLE)
    if named:
        place = Path(named) if name == "l1d" else Path(named).with_name(name)
        found = shutil.which(str(place.absolute()))
        if found is None:
            raise ProgramMissing(
                f"{PROGRAM_VARIABLE} is {named}, but {place} is no program: set it to the path of"
                " l1d, beside which l1ctl is, or to nothing"
            )
        return found
    for place in _installed(name):
        found = shutil.which(str(place))
        if found is not None:
            return found
    found = shutil.which(name)
    if found is None:
        raise ProgramMissing(
            f"the program {name} is neither in this Python's package l1d nor on PATH: "
            "install a wheel that has it (pip install --force-reinstall l1d), or build it with "
            f"cargo (cargo build --release --bins) and set {PROGRAM_VARIABLE} to the l1d there"
        )
    return found


def _installed(name: str) -> Iterator[Path]:
    try:
        files = metadata.files("l1d") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        # The package's directory has the name too, so a directory is no answer; `which` sees to it.
        if file.name == name:
            yield Path(str(file.locate())).resolve()
    yield Path(sysconfig.get_path("scripts")) / name
    # pip install --target
    yield Path(__file__).parents[1] / "bin" / name
