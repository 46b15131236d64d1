"""The PEP 517 backend of the package: maturin's, and two things that maturin does not do.

- A wheel carries the programs `l1d` and `l1ctl` beside the extension. `L1D_WITHOUT_DAEMON=1` leaves
  them out, for packagers who have them in a package of their own.
- An sdist holds the whole cargo workspace, which the programs are built from, with `pyproject.toml`
  at its root, where pip looks for it.

`--config-settings`: `zig=2.17` links with zig, so that the wheel runs with that glibc and later
(2.17 is manylinux2014's); `target=TRIPLE` builds for another machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Optional

import maturin

PACKAGE = Path(__file__).resolve().parents[1]
WORKSPACE = PACKAGE.parent
# Where maturin looks for the files of a wheel that are neither modules nor metadata.
DATA = PACKAGE / "l1d._l1d.data"
PROGRAMS = ("l1d", "l1ctl")
# No directories of sources.
_BUILT = {"target", "dist", "__pycache__"}

Settings = Optional[Mapping[str, Any]]

# An sdist has its pyproject.toml elsewhere; maturin reads the one of the working directory.
os.chdir(PACKAGE)


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return ["cargo-zigbuild", "ziglang"] if (config_settings or {}).get("zig") else []


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return []


get_requires_for_build_editable = get_requires_for_build_sdist


def prepare_metadata_for_build_wheel(directory: str, config_settings: Settings = None) -> str:
    return maturin.prepare_metadata_for_build_wheel(directory)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def build_editable(
    directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Without the programs: whoever changes them runs those of the target directory."""
    return maturin.build_editable(directory, None, metadata_directory)


def build_wheel(
    directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    settings = config_settings or {}
    target, zig = settings.get("target"), settings.get("zig")
    # A profile for both builds, so that they share what they compile.
    os.environ.update(CARGO_PROFILE_RELEASE_STRIP="symbols", CARGO_PROFILE_RELEASE_DEBUG="false")
    arguments = ["--locked"]
    if zig:
        arguments += ["--zig", "--compatibility", f"manylinux_{zig.replace('.', '_')}"]
    if target:
        arguments += ["--target", target]
    shutil.rmtree(DATA, ignore_errors=True)
    try:
        if os.environ.get("L1D_WITHOUT_DAEMON", "0") in ("", "0"):
            _add_programs(target, zig)
        settings_of_maturin = {"build-args": arguments}
        return maturin.build_wheel(directory, settings_of_maturin, metadata_directory)
    finally:
        # Otherwise later builds would take these programs for their own.
        shutil.rmtree(DATA, ignore_errors=True)


def build_sdist(directory: str, config_settings: Settings = None) -> str:
    with tempfile.TemporaryDirectory() as metadata:
        information = maturin.prepare_metadata_for_build_wheel(metadata)
        # Such as l1d-0.1.0.
        stem = information.removesuffix(".dist-info")
        package_information = Path(metadata, information, "METADATA").read_bytes()
    settings = (PACKAGE / "pyproject.toml").read_text(encoding="utf-8")
    here, there = 'backend-path = ["build_backend"]', 'backend-path = ["python/build_backend"]'
    assert settings.count(here) == 1, f"pyproject.toml has no line {here}"
    name = f"{stem}.tar.gz"
    # Links are followed: the licences are links to those of the workspace.
    with tarfile.open(Path(directory, name), "w:gz", dereference=True) as archive:
        for file in _sources():
            archive.add(WORKSPACE / file, f"{stem}/{file}", recursive=False, filter=_of_nobody)
        _add_text(archive, f"{stem}/pyproject.toml", settings.replace(here, there).encode())
        _add_text(archive, f"{stem}/PKG-INFO", package_information)
    return name


def _add_programs(target: str | None, zig: str | None) -> None:
    """Builds the programs and puts them where maturin takes them into the wheel."""
    if shutil.which("cargo") is None:
        sys.exit(
            "l1d: cargo is not on PATH, which builds l1d: install Rust from https://rustup.rs, "
            "or install a wheel"
        )
    if zig:
        host = subprocess.check_output(["rustc", "--print", "host-tuple"], text=True).strip()
        command = ["cargo", "zigbuild", "--target", f"{target or host}.{zig}"]
    else:
        command = ["cargo", "build"] + (["--target", target] if target else [])
    command += ["--release", "--locked", "--manifest-path", str(WORKSPACE / "Cargo.toml")]
    command += ["-p", "l1d", "--bins", "--message-format", "json-render-diagnostics"]
    print("Running", *command, flush=True)
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit(f"l1d: the programs could not be built: {' '.join(command)} failed, see above")
    scripts = DATA / "scripts"
    scripts.mkdir(parents=True)
    for line in built.stdout.splitlines():
        artifact = json.loads(line)
        if artifact.get("executable") and artifact["target"]["name"] in PROGRAMS:
            shutil.copy2(artifact["executable"], scripts)
    missing = [name for name in PROGRAMS if not (scripts / name).exists()]
    assert not missing, f"cargo built no {missing}"


def _sources() -> list[str]:
    """The workspace's files, as git knows them; in an unpacked sdist: all."""
    if (WORKSPACE / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.check_output(command, cwd=WORKSPACE, text=True).split("\0")
        return sorted({file for file in listed if file and (WORKSPACE / file).is_file()})
    found = []
    for directory, directories, files in os.walk(WORKSPACE):
        directories[:] = [
            name for name in directories if name not in _BUILT and not name.startswith(".")
        ]
        place = Path(directory).relative_to(WORKSPACE)
        found += [str(place / file) for file in files if not file.endswith(".so")]
    return sorted(set(found) - {"PKG-INFO", "pyproject.toml"})


def _of_nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _add_text(archive: tarfile.TarFile, name: str, text: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text)
    member.mtime = int((PACKAGE / "pyproject.toml").stat().st_mtime)
    archive.addfile(member, BytesIO(text))
