"""What tests, examples in docstrings and documents share: this tree's daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_TREE = Path(__file__).parents[1]
# As `cargo build --bins` built it.
_BUILT = _TREE / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "l1d"

if _BUILT.exists():
    os.environ.setdefault("L1D_PROGRAM", str(_BUILT))


@pytest.fixture(autouse=True)
def _daemon_of_examples(request: pytest.FixtureRequest) -> None:
    """The daemon that an example in a docstring or a document finds."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("l1d_server")
