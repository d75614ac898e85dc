# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose sizes 2 and 3 divide, and Hugging Face's tokens for every request of `asks`.

The lm head is moved as tests/smoke/lead.py moves it, so that each judged token leads by more than float16 or bfloat16
change: `lead._change` measures what they do, and a lead of less than four times that is refused.
"""

import copy
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import drafters
import lead
import reference
from checkpoints import Model

from survey import asks

EXPERTS = 12
_TIMES = 4.0
_SIZES = {"vocab_size": asks.VOCABULARY, "hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 6}
_SEED = 3
_SEEDS = 8


def config(model: str) -> dict[str, Any]:
    """Of tests/smoke's, with sizes that 2 and 3 divide."""
    found = Model(model).config | _SIZES
    heads = 6 if model == "deepseek_v3" else 3
    experts = {name: EXPERTS for name in ("num_experts", "n_routed_experts") if name in found}
    return found | {"num_key_value_heads": heads} | experts


def make(model: str, directory: Path) -> Path:
    """The folder with the checkpoint as `plain`, for DeepSeek also as `mtp`, and expected.json; made if missing."""
    sources = (Path(__file__), Path(asks.__file__), *(Path(str(m.__file__)) for m in (checkpoints, lead, drafters)))
    code = b"".join(path.read_bytes() for path in sources)
    dest = directory / f"{model}-{hashlib.sha256(model.encode() + code).hexdigest()[:12]}"
    if dest.is_dir():
        return dest
    partial = dest.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    net, expected = _led(model)
    net.save_pretrained(partial / "plain")
    if model == "deepseek_v3":
        drafters.with_mtp_layer(partial / "plain").rename(partial / "mtp")
    (partial / "expected.json").write_text(json.dumps(expected))
    partial.rename(dest)
    return dest


def _led(model: str) -> tuple[Any, dict[str, list[int]]]:
    """The model of the first seed that can be given its lead, and the tokens by request."""
    for seed in range(_SEED, _SEED + _SEEDS):
        net = _random(model, seed)
        try:
            return net, _widen(net)
        except reference.AmbiguousReferenceError as error:
            failed = error
    raise failed


def _random(model: str, seed: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    given = config(model)
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(model, **given, torch_dtype=torch.float32))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim == 2:
                fan_in = 4 if "embed" in name else tensor.shape[1]
                scale = 1.0 if name.endswith(checkpoints._ATTENTION_SCORES) else 2.0
                tensor.normal_(0.0, scale / math.sqrt(fan_in), generator=generator)
        if "num_experts" in given or "n_routed_experts" in given:
            checkpoints._route_by_token(net, EXPERTS, generator)
        for tensor in net.parameters():
            tensor.copy_(lead.representable(tensor))
    return net


def _widen(net: Any) -> dict[str, list[int]]:
    """Gives every judged step its lead; the tokens by request."""
    import torch

    with torch.no_grad():
        exact = reference.in_float64(copy.deepcopy(net))
        walks = {f"p{i}": reference.walk(exact, prompt, asks.JUDGED) for i, prompt in enumerate(asks.PROMPTS)}
        for k, prompt in enumerate(asks.FIRST_TURNS):
            first = walks[f"t{k}"] = reference.walk(exact, prompt, asks.ANSWERED)
            walks[f"u{k}"] = reference.walk(exact, (*prompt, *first.tokens, asks.FOLLOW_UP), asks.JUDGED)
        net.lm_head.weight.copy_(lead._moved(exact.lm_head.weight, list(walks.values())))
        exact.lm_head.weight.copy_(net.lm_head.weight)
        every = list(walks.values())
        most = max(lead._change(exact, lead.rounding(net, dtype), every) for dtype in ("float16", "bfloat16"))
    if most * _TIMES > reference.LEAD:
        raise reference.AmbiguousReferenceError(f"rounding moves a logit by {most:.2f}; the lead is {reference.LEAD}")
    return {name: one.tokens for name, one in walks.items()}
