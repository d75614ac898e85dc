# SPDX-License-Identifier: Apache-2.0
"""One change of a target, all or nothing: keep the bytes, write the journal, replace file by file, read back. Cut off
before the journal is there, nothing has changed; after that, the next command finishes the change or takes it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from patchset.node import manifest
from patchset.node.errors import PatchsetError, PinMismatch, TargetModified, UsageError, plural
from patchset.plan import history
from patchset.system import disk, lock
from patchset.system.git import Repository
from patchset.system.state import FileState, Installed, Journal, Store
from patchset.system.terminal import Terminal
from patchset.target.locate import Kind, Target

Files = dict[str, tuple[bytes | None, bool]]
"""By path: the content, None for no file, and whether a new file is executable."""


@contextmanager
def session(target: Target, store: Store) -> Iterator[None]:
    """Holds the target's lock, without what a git holds that was killed with the last run."""
    with store.session() as killed:
        if killed and target.kind is Kind.BUILD:
            Repository(target.root).unlock()
        yield


@contextmanager
def turn(target: Target, store: Store, command: str, terminal: Terminal, *, dry_run: bool) -> Iterator[None]:
    """Holds the target's lock, and ends what a run began that was cut off; a dry run holds nothing and changes nothing.
    Raises Locked where another run holds it; UsageError where a dry run would find what a cut-off run has left."""
    if dry_run:
        lock.refuse_if_held(store.lock)
        if store.journal():
            hint = f"make status{target.named} tells more"
            raise UsageError("a run was cut off here; a dry run cannot tell what is found after it", hint=hint)
        yield
        return
    with session(target, store):
        if done := recover(target, store, command):
            terminal.step(done)
        yield


def differing(found: Mapping[str, str], desired: Files) -> Files:
    """The desired files that are not so yet."""
    return {path: row for path, row in desired.items() if found.get(path) != _sha256(row[0])}


def refuse_links(root: Path, paths: Iterable[str]) -> None:
    """Raises TargetModified where writing one of the paths would write elsewhere."""
    for path in sorted(paths):
        file = root
        for part in path.split("/"):
            file /= part
            if file.is_symlink():
                why = f"{file} is a link; nothing is written through links"
                where = file.relative_to(root).as_posix()
                raise TargetModified(why, paths=[where], hint="replace it with a real file")


def carry_out(
    target: Target, store: Store, command: str, found: Mapping[str, str], desired: Files, installed: Installed | None
) -> None:
    """Brings files to their desired content, by the digests that were found; the caller holds the lock. Where it
    raises, nothing was changed, or the next command finishes or takes back what was. It is TargetModified where a file
    lies behind a link, or was changed by someone else meanwhile."""
    refuse_links(target.root, desired)
    files: dict[str, FileState] = {}
    for path, (data, executable) in sorted(desired.items()):
        file = target.root / path
        now = file.read_bytes() if file.exists() else None
        if found.get(path) != _sha256(now):
            raise TargetModified(f"{file} was changed just now", paths=[path], hint="run the command again")
        if now != data:
            before, after = (None if content is None else store.keep(content) for content in (now, data))
            files[path] = FileState(before, after, executable)
    journal = Journal(command, files, installed, store.installed())
    store.write_journal(journal)
    try:
        complete(target, store, journal)
    except BaseException:
        with suppress(PatchsetError, OSError):
            complete(target, store, journal.reversed)
        raise


def complete(target: Target, store: Store, journal: Journal) -> None:
    """Brings every file of a journal to its `after`; can be cut off and repeated, also in reverse. Raises
    TargetModified where a file is neither as before nor as after the change; nothing is written then."""
    found, files = manifest.measure(target.root, journal.files), journal.files
    if foreign := [path for path, sha in found.items() if sha not in (files[path].before, files[path].after)]:
        said = f"{target.root}: changed by someone else while a change of this tool was under way:"
        hint = f"move your version of these files away, then run patchset {journal.command} again"
        raise TargetModified("\n  ".join([said, *foreign]), paths=foreign, hint=hint)
    for path, row in sorted(files.items()):
        file = target.root / path
        if disk.temporary(file).exists():
            disk.remove(disk.temporary(file))
        if found.get(path) != row.after:
            _replace(target, store, path, row)
    for folder in {(target.root / path).parent for path in files}:
        if folder.is_dir():
            disk.sync(folder)
    found = manifest.measure(target.root, files)
    for path, row in files.items():
        if found.get(path) != row.after:  # success is what the disk says
            wanted, there = row.after or "no file", found.get(path, "no file")
            raise PinMismatch(str(target.root / path), expected=wanted, found=there, hint="run it again")
    if target.kind is Kind.BUILD and (target.root / ".git").is_dir():
        disk.step("point git at the branch")
        history.point(target.root, journal.installed.set if journal.installed else history.UPSTREAM)
    store.finish(journal.installed)


def recover(target: Target, store: Store, command: str) -> str:
    """Ends an interrupted run, and says how: the same command finishes the change, another takes it back."""
    journal = store.journal()
    if journal is None:
        return ""
    same = journal.command == command
    complete(target, store, journal if same else journal.reversed)
    done, files = "finished" if same else "took back", plural(len(journal.files), "file")
    return f"{done} the {journal.command} that was cut off ({files})"


def _replace(target: Target, store: Store, path: str, row: FileState) -> None:
    file = target.root / path
    if row.after is None:
        disk.remove(file)
        cache = file.parent / "__pycache__"
        if file.suffix == ".py" and cache.is_dir():
            for compiled in sorted(cache.glob(f"{file.stem}.*.pyc")):
                disk.remove(compiled)
            disk.remove_empty_folders([cache])
        disk.remove_empty_folders(folder for folder in file.parents if target.root in folder.parents)
        return
    data = store.get(row.after)
    if data is None:
        kept = str(store.folder / "objects" / row.after)
        raise PinMismatch(kept, expected=row.after, found="missing or damaged", hint="patchset revert")
    if file.exists():
        was = file.stat()
        disk.write(file, data, mode=was.st_mode & 0o7777, owner=was)
    else:
        owner = target.root.stat()
        disk.make_folder(file.parent, owner)
        allowed = file.parent.stat().st_mode & (0o777 if row.executable else 0o666)
        disk.write(file, data, mode=allowed, owner=owner)


def _sha256(data: bytes | None) -> str | None:
    return None if data is None else manifest.sha256(data)
