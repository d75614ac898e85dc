# SPDX-License-Identifier: Apache-2.0
"""What Hugging Face transformers generates greedily from a checkpoint: the expected tokens."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOKENS = 8
"""New tokens of each prompt."""

LEAD = 1.0
"""By how much the first logit leads at each greedy step, at least; logits have a standard deviation of 2.

Two engines, or two CPUs, add in different orders, and the nearest logits of a random head differ by less than that
changes. lead.py makes the lead, and measures what rounding can do to it: over ``PROMPTS`` a logit moves by at most
0.035 in float16 and 0.22 in bfloat16 (DeepSeek; others less).
"""

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


@dataclass(frozen=True)
class Walk:
    """What follows a prompt greedily.

    Attributes:
        prompt: token ids.
        tokens: the ids that follow.
        states: what the lm head got for each of them: [tokens, hidden size].
        lead: the least distance of a first logit to the second.
    """

    prompt: tuple[int, ...]
    tokens: list[int]
    states: "torch.Tensor"
    lead: float


def in_float64(net: Any) -> Any:
    """``net``, whose weights and sums are float64 from here on."""
    net = net.eval().double()
    for module in net.modules():
        if type(module).__name__ == "DeepseekV3TopkRouter":
            # Weighs its experts in float32 always, and the sum over them takes no two types.
            module.register_forward_hook(lambda _module, _arguments, found: (found[0], found[1].double()))
    return net


def walk(net: Any, prompt: tuple[int, ...], count: int = TOKENS) -> Walk:
    """The ``count`` greedy tokens that follow ``prompt``."""
    import torch

    states, tokens, lead = [], list[int](), math.inf
    given, cache = list(prompt), None
    with torch.no_grad():
        while len(tokens) < count:
            found = net.model(torch.tensor([given]), past_key_values=cache, use_cache=True)
            cache, state = found.past_key_values, found.last_hidden_state[0, -1]
            (best, second), (token, _) = torch.topk(net.lm_head(state), 2)
            states.append(state)
            tokens.append(int(token))
            given, lead = tokens[-1:], min(lead, float(best - second))
    return Walk(prompt, tokens, torch.stack(states), lead)


def expected_tokens(checkpoint: Path) -> dict[int, list[int]]:
    """Token ids by prompt index, computed in float64 once for each checkpoint and set of prompts.

    Raises:
        AmbiguousReferenceError: a best logit is less than ``LEAD`` above the second.
    """
    wanted = hashlib.sha256(repr((PROMPTS, TOKENS, LEAD)).encode()).hexdigest()[:12]
    cache = checkpoint / f"expected-{wanted}.json"
    if cache.is_file():
        return {int(k): v for k, v in json.loads(cache.read_text()).items()}
    tokens = _generate(checkpoint)
    partial = cache.with_suffix(".partial")
    partial.write_text(json.dumps(tokens))
    partial.rename(cache)
    return tokens


def _generate(checkpoint: Path) -> dict[int, list[int]]:
    from transformers import AutoModelForCausalLM

    net = in_float64(AutoModelForCausalLM.from_pretrained(checkpoint))
    found: dict[int, list[int]] = {}
    for index, prompt in enumerate(PROMPTS):
        walked = walk(net, prompt)
        if walked.lead < LEAD:
            raise AmbiguousReferenceError(
                f"{checkpoint.name}, prompt {index}: two best logits are {walked.lead:.1e} apart; see lead.py"
            )
        found[index] = walked.tokens
    return found
