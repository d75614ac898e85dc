# SPDX-License-Identifier: Apache-2.0
"""The findings of checks, and the code of each kind of finding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from patchset.system import paths


class Code(Enum):
    """Every kind of finding, by an id of PS and three digits, the first of which is the subject."""

    def __init__(self, code: str, summary: str) -> None:
        self.id, self.summary = code, summary

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")

    SET_UNREADABLE = ("PS101", "set.toml, the series or overlay.toml cannot be read")
    NOT_IN_FOLDER = ("PS102", "the series lists a patch that the folder does not have")
    NOT_IN_SERIES = ("PS103", "the folder has a patch that the series does not list")
    LISTED_TWICE = ("PS104", "the series lists a patch twice")
    SAME_PATCH = ("PS105", "two patches are the same, byte for byte")
    PIN_STALE = ("PS106", "a digest in set.toml is not that of what the set makes")
    PINS_DISAGREE = ("PS107", "a pinned version is not that of its files, or not upstream's own")

    MALFORMED = ("PS201", "the file is no patch: an mbox line, a header, and a git diff")
    TOO_LARGE = ("PS202", "the file is larger than any patch that is read")
    NOT_UTF8 = ("PS203", "the file is not UTF-8")
    CARRIAGE_RETURN = ("PS204", "a line ends with a carriage return that upstream's file does not have")
    MODE = ("PS206", "the mode of a file is odd or changes, or a new file that is no script is executable")
    TRAILING_SPACE = ("PS211", "an added line ends with white space")
    CONFLICT_MARKER = ("PS212", "an added line is a conflict marker")
    NOT_CANONICAL = ("PS213", "the file is not what git makes of it: a line is lost, or lies")

    DOES_NOT_FIT = ("PS301", "a hunk does not fit at its very lines; no fuzz and no offset is allowed")
    DOES_NOT_COMPILE = ("PS303", "a Python file does not compile after the patch")

    FIELD_MISSING = ("PS401", "a required field of the header, or its text, is missing")
    FIELD_UNKNOWN = ("PS402", "a field of the header is not known")
    FIELD_TWICE = ("PS403", "a field of the header is there twice")
    FIELD_MALFORMED = ("PS404", "a field of the header has a value that it must not have")
    INCONSISTENT = ("PS405", "two fields of the header contradict each other")
    REVIEW_PASSED = ("PS406", "the day by which the patch was to be reviewed has passed")

    REPLACED_CHANGED = ("PS501", "upstream code that the overlay replaces is not what was replaced")
    API_GONE = ("PS502", "a public name of upstream is gone, and overlay.toml does not say why")
    API_CHANGED = ("PS503", "a public signature of upstream has changed, and overlay.toml does not say why")
    BREAK_STALE = ("PS504", "overlay.toml explains a change of a public name that there is not")

    SETS_DIFFER = ("PS601", "the same patch adds or removes other lines in another set, unexplained")


@dataclass(frozen=True)
class Finding:
    file: str  # below the repository, with slashes
    line: int  # in that file, from 1
    code: Code
    message: str  # what is wrong, one line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code.id} {self.message}"

    def as_dict(self) -> dict[str, object]:
        told = {"code": self.code.id, "name": self.code.label, "message": self.message}
        return {"file": self.file, "line": self.line, **told}


def at(file: Path, line: int, code: Code, message: str) -> Finding:
    """A finding in a file of the repository; the message on one line."""
    return Finding(file.relative_to(paths.repo_root()).as_posix(), max(line, 1), code, " ".join(message.split()))


def line_of(text: str, words: str) -> int:
    """The number of the first line, from 1, that holds these words; 1 where none does."""
    return next((number for number, line in enumerate(text.split("\n"), start=1) if words in line), 1)
