# SPDX-License-Identifier: Apache-2.0
"""A rank as rank.py's, whose engine queues batches for its pipeline stages: ``main(job.json)``."""

from typing import Any

import rank


def _meet_the_others_in_every_step(core: Any) -> None:
    """In a step that only takes a batch from the queue no stage runs. vLLM's engine process then runs a step without a
    request, which the other ranks meet; its in-process client leaves that out."""
    step = core.step_fn

    def call() -> Any:
        outputs, executed = step()
        if not executed:
            core.execute_dummy_batch()
        return outputs, executed

    core.step_fn = call


def main(job_file: str) -> None:
    rank._hand_drafts_over = _meet_the_others_in_every_step
    rank.main(job_file)
