"""The frameworks' own tests, from releases on PyPI that are pinned by their hashes. Nothing of them
is kept in this repository: they are downloaded once for each environment, and unpacked for each
run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

PINS = Path(__file__).with_name("sdists.txt")
ARCHIVES = Path(os.environ.get("L1D_SDISTS", Path(sys.prefix) / "l1d-sdists"))


def releases() -> dict[str, tuple[str, str]]:
    """Version and SHA-256 of each framework."""
    lines = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    parted = [line.replace("==", " ").replace(" --hash=sha256:", " ").split() for line in lines]
    return {name: (version, digest) for name, version, digest in parted}


def download() -> None:
    """Downloads what is not there yet."""
    if all(_archive(name) is not None for name in releases()):
        return
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes"]
    subprocess.run([*command, "-r", str(PINS), "-d", str(ARCHIVES)], check=True)


def unpack(name: str, directory: Path) -> Path:
    """Unpacks the tests of a framework; returns the path of its release."""
    archive = _archive(name)
    assert archive is not None, f"{name} has not been downloaded"
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    (root,) = directory.iterdir()
    return root


def _archive(name: str) -> Path | None:
    version, digest = releases()[name]
    stem = name.lower().replace(".", "_").replace("-", "_")
    path = ARCHIVES / f"{stem}-{version}.tar.gz"
    if not path.exists():
        return None
    is_whole = hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return path if is_whole else None
