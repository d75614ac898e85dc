# SPDX-License-Identifier: Apache-2.0
"""What a release of vllm-ascend has, as far as its steps differ from another's; and the release on the import path."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import vllm
from vllm_ascend.spec_decode import eagle_proposer
from vllm_ascend.worker import model_runner_v1


@dataclass(frozen=True)
class Release:
    """One release.

    ``both_kinds`` says that it has full decode graphs beside graphs of any batch, so that ranks may differ in which of
    two graphs they could replay.
    """

    both_kinds: bool = False


_RELEASES = {
    "0.18.0": Release(),
}
THIS = _RELEASES[vllm.__version__.partition("+")[0]]

RUNNER: ModuleType = model_runner_v1
DRAFTERS: ModuleType = eagle_proposer
