"""The daemon that these tests start: this tree's, as `cargo build --bins` built it."""

from __future__ import annotations

import os
from pathlib import Path

_TREE = Path(__file__).parents[2]
_BUILT = Path(os.environ.get("CARGO_TARGET_DIR", _TREE / "target")) / "debug" / "l1d"

if _BUILT.exists():
    os.environ.setdefault("L1D_PROGRAM", str(_TREE / _BUILT))
