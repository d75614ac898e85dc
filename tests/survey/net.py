# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose sizes 2 and 3 divide, and Hugging Face's answers to every request of `asks`.

expected.json has, by request, ``tokens``, the largest logprobs of each step as ``top``, the logprobs of the prompt's
tokens but the first as ``prompt``, and for a request with a grammar its ``grammar``. The lm head is moved as
tests/smoke/lead.py moves it, so that each judged token leads by more than float16 or bfloat16 change: `lead._change`
measures what they do, and a lead of less than four times that is refused.
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

from survey import asks, reading

EXPERTS = 12
_TIMES = 4.0
_SIZES = {"vocab_size": asks.VOCABULARY, "hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 6}
_SEED = 3
_SEEDS = 8


def config(model: str) -> dict[str, Any]:
    """Of tests/smoke's, with sizes that 2 and 3 divide; key-value heads are split by tensor parallelism alone."""
    found = Model(model).config | _SIZES
    heads = 6 if model == "deepseek_v3" else 2
    experts = {name: EXPERTS for name in ("num_experts", "n_routed_experts") if name in found}
    return found | {"num_key_value_heads": heads} | experts


def make(model: str, directory: Path) -> Path:
    """The folder with the checkpoint as `plain`, for DeepSeek also as `mtp`, a `tokenizer`
    and expected.json; made if missing."""
    modules = (asks, checkpoints, lead, drafters)
    code = b"".join(path.read_bytes() for path in (Path(__file__), *(Path(str(one.__file__)) for one in modules)))
    dest = directory / f"{model}-{hashlib.sha256(model.encode() + code).hexdigest()[:12]}"
    if dest.is_dir():
        return dest
    partial = dest.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    net, expected = _led(model)
    net.save_pretrained(partial / "plain")
    if model == "deepseek_v3":
        drafters.with_mtp_layer(partial / "plain").rename(partial / "mtp")
    _tokenizer().save_pretrained(partial / "tokenizer")
    (partial / "expected.json").write_text(json.dumps(expected))
    partial.rename(dest)
    return dest


def _tokenizer() -> Any:
    """Token 7 is the word ``t7``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"t{index}": index for index in range(asks.VOCABULARY)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=f"t{asks.VOCABULARY - 1}")


def _led(model: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The model of the first seed that can be given its lead, and what is expected by request."""
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


def _widen(net: Any) -> dict[str, dict[str, Any]]:
    """Gives every judged step its lead; what is expected by request."""
    import torch

    with torch.no_grad():
        exact = reference.in_float64(copy.deepcopy(net))
        walks = {f"p{i}": reference.walk(exact, prompt, asks.JUDGED) for i, prompt in enumerate(asks.PROMPTS)}
        for k, prompt in enumerate(asks.FIRST_TURNS):
            first = walks[f"t{k}"] = reference.walk(exact, prompt, asks.ANSWERED)
            walks[f"u{k}"] = reference.walk(exact, (*prompt, *first.tokens, asks.FOLLOW_UP), asks.JUDGED)
        net.lm_head.weight.copy_(lead._moved(exact.lm_head.weight, list(walks.values())))
        exact.lm_head.weight.copy_(net.lm_head.weight)
        walks["g0"], grammar = _walk_in_a_grammar(exact, asks.PROMPTS[0])
        every = list(walks.values())
        most = max(lead._change(exact, lead.rounding(net, dtype), every) for dtype in ("float16", "bfloat16"))
        expected = {name: _expected(exact, one) for name, one in walks.items()}
    if most * _TIMES > reference.LEAD or most * 2 > reading.NEAR:
        raise reference.AmbiguousReferenceError(f"rounding moves a logit by {most:.2f}; the lead is {reference.LEAD}")
    expected["g0"]["grammar"] = grammar
    return expected


def _expected(exact: Any, walk: Any) -> dict[str, Any]:
    """What is expected of one walk, with the lm head as it is now."""
    import torch

    logprobs = torch.log_softmax(exact.lm_head(walk.states), dim=-1)
    states = exact.model(torch.tensor([walk.prompt])).last_hidden_state[0]
    of_prompt = torch.log_softmax(exact.lm_head(states[:-1]), dim=-1)
    following = torch.tensor(walk.prompt[1:], dtype=torch.int64)
    return {
        "tokens": walk.tokens,
        "top": logprobs.topk(asks.LOGPROBS).values.tolist(),
        "prompt": of_prompt.gather(1, following.unsqueeze(1)).squeeze(1).tolist(),
    }


def _walk_in_a_grammar(exact: Any, prompt: tuple[int, ...]) -> tuple[reference.Walk, str]:
    """The greedy tokens among two at each step, of which the first leads, and the grammar that allows these alone.

    The tokens are words of one digit: no word is the beginning of another one.
    """
    import torch

    states, tokens, steps, leads = [], list[int](), [], []
    for _ in range(asks.JUDGED):
        state = exact.model(torch.tensor([[*prompt, *tokens]])).last_hidden_state[0, -1]
        logits = exact.lm_head(state)[:10]
        best, worst = int(logits.argmax()), int(logits.argmin())
        leads.append(float(logits[best] - logits[worst]))
        steps.append("(" + "|".join(f"t{token}" for token in sorted((best, worst))) + ")")
        states.append(state)
        tokens.append(best)
    if min(leads) < reference.LEAD:
        raise reference.AmbiguousReferenceError(f"two logits are {min(leads):.2f} apart")
    return reference.Walk(prompt, tokens, torch.stack(states), min(leads)), "".join(steps)
