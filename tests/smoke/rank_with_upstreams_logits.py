# SPDX-License-Identifier: Apache-2.0
"""rank.py with vLLM's LogitsProcessor replaced by vllm-ascend's, as later releases of vLLM do it.

vLLM 0.10.1.1 has no place to register it, so a parallel lm head never communicates there. This shows what else is
wrong with it.
"""

import sys

import rank


def main(job_file: str) -> None:
    from vllm.model_executor.layers.logits_processor import LogitsProcessor
    from vllm_ascend.ops.vocab_parallel_embedding import AscendLogitsProcessor

    for name in ("_get_logits", "_get_logits_lmheadtp", "_get_logits_normal"):
        setattr(LogitsProcessor, name, getattr(AscendLogitsProcessor, name))
    rank.main(job_file)


if __name__ == "__main__":
    main(sys.argv[1])
