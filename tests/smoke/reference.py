# SPDX-License-Identifier: Apache-2.0
"""What Hugging Face transformers generates greedily from a checkpoint: the expected tokens."""

import hashlib
import json
from pathlib import Path
from typing import Any

TOKENS = 8
"""New tokens of each prompt."""

# Two engines add in different orders. A step whose two best logits lie nearer than this could go
# either way, so such a checkpoint proves nothing.
SMALLEST_MARGIN = 2e-3

# One-token prompts, short ones, and one longer than the 128 tokens of a key-value block.
PROMPTS: tuple[tuple[int, ...], ...] = (
    (11, 3, 250, 77, 5),
    (5,),
    (90, 91, 92),
    tuple((7 * i * i + 3 * i + 1) % 256 for i in range(150)),
    (200, 4, 4, 4, 200, 17, 33, 68, 129),
    (42,),
    tuple(range(100, 123)),
    (1, 254),
)


class AmbiguousReferenceError(Exception):
    """Two logits are too close for a greedy token to be certain."""


def expected_tokens(checkpoint: Path) -> dict[int, list[int]]:
    """Token ids by prompt index, computed once for each checkpoint and set of prompts.

    Raises:
        AmbiguousReferenceError: a best logit is less than ``SMALLEST_MARGIN`` above the second.
    """
    wanted = hashlib.sha256(repr((PROMPTS, TOKENS)).encode()).hexdigest()[:12]
    cache = checkpoint / f"expected-{wanted}.json"
    if cache.is_file():
        return {int(k): v for k, v in json.loads(cache.read_text()).items()}
    tokens = _generate(checkpoint)
    partial = cache.with_suffix(".partial")
    partial.write_text(json.dumps(tokens))
    partial.rename(cache)
    return tokens


def _generate(checkpoint: Path) -> dict[int, list[int]]:
    import torch
    from transformers import AutoModelForCausalLM

    net: Any = AutoModelForCausalLM.from_pretrained(checkpoint, torch_dtype=torch.float32).eval()
    found: dict[int, list[int]] = {}
    for index, prompt in enumerate(PROMPTS):
        ids = list(prompt)
        for step in range(TOKENS):
            with torch.no_grad():
                logits = net(torch.tensor([ids])).logits[0, -1]
            best, second = torch.topk(logits, 2).values.tolist()
            if best - second < SMALLEST_MARGIN:
                raise AmbiguousReferenceError(
                    f"{checkpoint.name}, prompt {index}, token {step}: the two best logits are "
                    f"{best - second:.1e} apart; change the seed in checkpoints.py"
                )
            ids.append(int(logits.argmax()))
        found[index] = ids[len(prompt) :]
    return found
