# SPDX-License-Identifier: Apache-2.0
"""Findings in SARIF 2.1.0 (OASIS), which code hosts show beside the lines of a pull request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from patchset import __version__
from patchset.lint.findings import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from patchset.lint.findings import Finding

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def document(found: Sequence[Finding]) -> dict[str, Any]:
    """The log of one run: every code as a rule, every finding as a result."""
    order = {code: number for number, code in enumerate(Code)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "patchset lint",
                        "semanticVersion": __version__,
                        "rules": [_rule(code) for code in Code],
                    }
                },
                "originalUriBaseIds": {"SRCROOT": {"description": {"text": "the repository that holds patches/"}}},
                "columnKind": "unicodeCodePoints",
                "results": [_result(finding, order[finding.code]) for finding in found],
            }
        ],
    }


def _rule(code: Code) -> dict[str, Any]:
    return {
        "id": code.id,
        "name": "".join(word.capitalize() for word in code.label.split("-")),
        "shortDescription": {"text": code.summary},
        "defaultConfiguration": {"level": "error"},
    }


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": finding.file, "uriBaseId": "SRCROOT"},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.code.id,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }
