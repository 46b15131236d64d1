"""The daemon that the tests start: this tree's, as `cargo build --bins` built it."""

from __future__ import annotations

import os
from pathlib import Path

_TREE = Path(__file__).parents[1]
_BUILT = _TREE / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "l1d"

if _BUILT.exists():
    os.environ.setdefault("L1D_PROGRAM", str(_BUILT))
