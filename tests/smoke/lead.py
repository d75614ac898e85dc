# SPDX-License-Identifier: Apache-2.0
"""Makes the first logit lead at every greedy step, by more than any CPU's rounding can change.

A random head's two best logits may be as near as chance will have it, and then a kernel's order of summation decides.
Here the head is moved as little as gives each step after each prompt its lead (by a few percent of its weights' size).
Tokens and hidden states stay those of the random model, so a wrong expert, key or value changes them as before;
test_reference.py shows that it does.
"""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reference import LEAD, PROMPTS, AmbiguousReferenceError, Walk, in_float64, walk

if TYPE_CHECKING:
    import torch

# Of the largest change that rounding makes here; it was 4.5 where these checkpoints were tried.
_TIMES = 3.0
_LOW_PRECISIONS = ("float16", "bfloat16")
# A step that is moved is moved this much further than it has to be, or the passes come ever nearer and never there.
_BEYOND = 1.25
_PASSES = 300


def representable(tensor: "torch.Tensor") -> "torch.Tensor":
    """``tensor`` with each value rounded to one that float16, bfloat16 and float32 all have."""
    import torch

    rounded = tensor.bfloat16().float()
    return rounded.masked_fill(rounded.abs() < torch.finfo(torch.float16).tiny, 0.0)


def widen(net: Any) -> None:
    """Changes the lm head of ``net``, of representable weights in float32, so that every step has a lead of ``LEAD``.

    Raises:
        AmbiguousReferenceError: no such head was found, or ``LEAD`` is less than three times what rounding does.
    """
    exact = in_float64(copy.deepcopy(net))
    walks = [walk(exact, prompt) for prompt in PROMPTS]
    net.lm_head.weight.copy_(_moved(exact.lm_head.weight, walks))
    exact.lm_head.weight.copy_(net.lm_head.weight)
    most = max(_change(exact, rounding(net, dtype), walks) for dtype in _LOW_PRECISIONS)
    if most * _TIMES > LEAD:
        raise AmbiguousReferenceError(f"rounding moves a logit by {most:.2f}, and the first leads by {LEAD}")


def _moved(head: "torch.Tensor", walks: Sequence[Walk]) -> "torch.Tensor":
    """The representable head near ``head`` ([vocabulary, hidden size]) with which the tokens of ``walks`` lead."""
    import torch

    states = torch.cat([one.states for one in walks])
    tokens = torch.tensor([token for one in walks for token in one.tokens])
    steps = torch.arange(len(tokens))
    head = head.detach().clone()
    for _ in range(_PASSES):
        head = representable(head).to(states.dtype)
        logits = states @ head.T
        ahead = logits[steps, tokens].unsqueeze(1) - logits
        ahead[steps, tokens] = math.inf
        near = (ahead < LEAD).nonzero().tolist()
        if not near:
            return head
        for step, other in near:
            state, token = states[step], tokens[step]
            lacks = _BEYOND * LEAD - (head[token] - head[other]) @ state
            share = state * (lacks.clamp(min=0.0) / (2.0 * state @ state))
            head[token] += share
            head[other] -= share
    raise AmbiguousReferenceError("the lm head has no room for these tokens' lead; take another seed")


def rounding(net: Any, dtype: str) -> Any:
    """A copy of ``net`` that computes in ``dtype``."""
    import torch

    rounding = copy.deepcopy(net).eval().to(getattr(torch, dtype))
    for own, given in zip(rounding.modules(), net.modules(), strict=True):
        if hasattr(own, "inv_freq"):
            own.inv_freq = given.inv_freq  # engines compute rotations in float32
    return rounding


def _change(exact: Any, rounding: Any, walks: Sequence[Walk]) -> float:
    """The most that a logit of ``rounding`` differs from ``exact``'s, along ``walks``."""
    import torch

    largest = 0.0
    for one in walks:
        ids = torch.tensor([[*one.prompt, *one.tokens]])
        change = rounding(ids).logits.double() - exact(ids).logits
        largest = max(largest, float(change[0, len(one.prompt) - 1 : -1].abs().max()))
    return largest
