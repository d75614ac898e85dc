# SPDX-License-Identifier: Apache-2.0
"""Makes .venv, which `make` runs the tool from: `python3 scripts/bootstrap.py tool|dev [--offline]`.

Standard library alone. pip brings uv, uv the rest; both check hashes. What .venv was made from is compared by content,
so that a touched file costs nothing. pip and uv fetch everything before they change anything, so that a .venv whose
packages cannot be had stays what it was, and works; one of another Python is kept aside until the new one is whole, and
so is one that was made for another folder: its programs and its path to scripts/ name that one, so in a checkout that
was copied, moved or is mounted elsewhere it would drive the first. One run at a time; others wait, and find the work
done.

Exit codes: 0 ok; 2 usage; 6 a package could not be had, or the checkout cannot be written.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
ASIDE = ROOT / ".venv.old"
MADE_FOR = ".made-for"  # in .venv: the checkout that it was made for, which the Makefile compares with its own folder
BIN = VENV / "bin"
REQUIREMENTS = ROOT / "requirements"


class BootstrapError(Exception):
    """A package could not be had, or Python cannot make a virtual environment."""


def made_from(part: str) -> str:
    """Digest of what a part of .venv is made from: its locks and, for the tool, pyproject.toml's word on the build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    about = {key: project[key] for key in ("build-system", "project")} if part == "tool" else {}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for lock in ("bootstrap.txt", "tool.txt") if part == "tool" else ("dev.txt",):
        digest.update((REQUIREMENTS / lock).read_bytes())
    return digest.hexdigest()


def install(part: str, *, offline: bool) -> None:
    """Brings a part of .venv up to date; raises BootstrapError, with the end of what pip or uv said."""
    stamp = VENV / {"tool": ".ready", "dev": ".dev"}[part]
    wanted = made_from(part)
    if _is_of_here(VENV) and stamp.is_file() and stamp.read_text() == wanted:
        stamp.touch()
        return
    if part == "tool":
        _install_tool(offline=offline)
    else:
        print("* installing the tools of tests and checks into .venv", file=sys.stderr)
        _uv("pip", "install", "--require-hashes", "-r", str(REQUIREMENTS / "dev.txt"), offline=offline)
    stamp.write_text(wanted)


def _install_tool(*, offline: bool) -> None:
    _put_back()  # what a run that was killed had set aside
    if _is_of_here(VENV) and _runs(BIN / "python"):
        _fill(offline=offline)
        return
    if VENV.exists() and not _is_of_here(VENV):
        print(f"* .venv was not made for {ROOT}: it is made anew", file=sys.stderr)
    if VENV.exists():  # kept until the new one is whole; paths in it are absolute, so the new one is made in its place
        VENV.rename(ASIDE)
    try:
        made = subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=False)
        if made.returncode:
            hint = "install its venv module (Debian: apt-get install python3-venv)"
            raise BootstrapError(f"{sys.executable} cannot make a virtual environment\nnext: {hint}")
        (VENV / MADE_FOR).write_text(f"{ROOT}\n")
        _fill(offline=offline)
    except BaseException:
        _put_back()
        raise
    if ASIDE.is_symlink():
        ASIDE.unlink()
    shutil.rmtree(ASIDE, ignore_errors=True)


def _put_back() -> None:
    if ASIDE.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        ASIDE.rename(VENV)


def _is_of_here(venv: Path) -> bool:
    file = venv / MADE_FOR
    return file.is_file() and file.read_text() == f"{ROOT}\n"


def _fill(*, offline: bool) -> None:
    print("* installing the tool into .venv", file=sys.stderr)
    if not (offline and _took_uv()):
        pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        no_index = ["--no-index"] if offline else []
        _run([*pip, *no_index, "--require-hashes", "-r", str(REQUIREMENTS / "bootstrap.txt")], dict(os.environ))
    _uv("pip", "install", "--require-hashes", "-r", str(REQUIREMENTS / "tool.txt"), offline=offline)
    _uv("pip", "install", "--no-deps", "--no-build-isolation", "--editable", str(ROOT), offline=offline)


def _took_uv() -> bool:
    """Whether the .venv that was set aside had the locked uv, a program that names no folder: the new one has it then,
    and needs no network where uv's cache has the rest."""
    uv = ASIDE / "bin" / "uv"
    try:
        version = subprocess.run([str(uv), "--version"], capture_output=True, text=True, check=False).stdout.split()
    except OSError:
        return False
    if not (REQUIREMENTS / "bootstrap.txt").read_text().startswith(f"uv=={''.join(version[1:2])} "):
        return False
    shutil.copy2(uv, BIN / "uv")
    return True


def _runs(python: Path) -> bool:
    """Whether an interpreter is there, works, and is of this version."""
    version = "import sys, pip; print(sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-c", version], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == str(sys.version_info[:2])


def _uv(*words: str, offline: bool) -> None:
    """Runs .venv's uv on .venv; it asks the index that pip is configured with, unless it has one of its own."""
    environ = os.environ | {"UV_SYSTEM_CERTS": "1", "VIRTUAL_ENV": str(VENV)}
    if not any(environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        asked = [str(BIN / "python"), "-m", "pip", "config", "get", "global.index-url"]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        if index := environ.get("PIP_INDEX_URL") or found:
            environ["UV_DEFAULT_INDEX"] = index
    if environ.get("PIP_FIND_LINKS") and not environ.get("UV_FIND_LINKS"):
        environ["UV_FIND_LINKS"] = environ["PIP_FIND_LINKS"].replace(" ", ",")
    if environ.get("PIP_NO_INDEX"):
        environ["UV_NO_INDEX"] = "1"
    _run([str(BIN / "uv"), "--quiet", *(["--offline"] if offline else []), *words], environ)


def _run(command: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        tail = "\n  ".join(done.stdout.strip().splitlines()[-8:])
        left = any((venv / "bin" / "patchset").is_file() and _is_of_here(venv) for venv in (VENV, ASIDE))
        raise BootstrapError(
            f"could not install into {VENV}\n  {tail}\n"
            "next: check the network and pip's index settings, then run the same command again; without a network,\n"
            "  let PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR name a folder that was filled elsewhere, by\n"
            "  pip download --require-hashes -d DIR -r requirements/bootstrap.txt -r requirements/tool.txt"
            + ("; .venv is as it was, and .venv/bin/patchset still runs" if left else "")
        )


def main() -> int:
    parser = argparse.ArgumentParser(description="makes .venv, which make runs the tool from")
    parser.add_argument("part", choices=("tool", "dev"))
    parser.add_argument("--offline", action="store_true", help="use the caches alone")
    arguments = parser.parse_args()
    try:
        with (ROOT / ".venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install(arguments.part, offline=arguments.offline)
    except BootstrapError as error:
        print(f"error: {error}", file=sys.stderr)
        return 6
    except OSError as error:
        said = f"{error.filename or ROOT}: {error.strerror or error}"
        hint = "run the same command as a user who may write there, or in a clone of your own"
        print(f"error: could not bring .venv up to date\n  {said}\nnext: {hint}", file=sys.stderr)
        return 6
    return 0


if __name__ == "__main__":
    sys.exit(main())
