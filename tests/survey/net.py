# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose sizes 2 and 3 divide, and Hugging Face's answers to every request of `asks`.

expected.json has, by request, ``tokens``, the largest logprobs of each step as ``top``, the logprobs of the prompt's
tokens but the first as ``prompt``, and for a request with a grammar its ``grammar``; of an embedding model the
``vector`` of each prompt alone. The lm head is moved as
tests/smoke/lead.py moves it, so that each judged token leads by more than float16 or bfloat16 change: `lead._change`
measures what they do, and a lead of less than four times that is refused.
"""

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints
import drafters
import lead
import reference
from checkpoints import Model

from survey import asks, models, pictures, reading
from survey.models import KINDS
from survey.pictures import Shown

EXPERTS = 12
_TIMES = 4.0
_SIZES = {"vocab_size": asks.VOCABULARY, "hidden_size": 96, "intermediate_size": 96, "num_attention_heads": 6}
_SEED = 3
_SEEDS = 8


def config(model: str) -> dict[str, Any]:
    """Of tests/smoke's, with sizes that 2 and 3 divide."""
    kind = KINDS[model]
    if kind.sees:
        common = {name: value for name, value in Model.QWEN3.config.items() if name != "head_dim"}
        return pictures.config(asks.VOCABULARY, common | _SIZES | {"num_key_value_heads": kind.kv_heads})
    found = Model(kind.family).config | _SIZES
    experts = {name: EXPERTS for name in ("num_experts", "n_routed_experts") if name in found}
    return found | {"num_key_value_heads": kind.kv_heads} | experts


def make(model: str, directory: Path) -> Path:
    """The folder with the checkpoint as `plain`, for DeepSeek also as `mtp`, a `tokenizer` and expected.json, and for
    Llama a head as `eagle3`; made if missing."""
    modules = (asks, models, pictures, checkpoints, lead, drafters)
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
    if model == "llama":
        drafters.eagle3_head(partial / "plain").rename(partial / "eagle3")
    tokenizer = _tokenizer(pictures.WORDS if KINDS[model].sees else ())
    tokenizer.save_pretrained(partial / "tokenizer")
    if KINDS[model].sees:
        pictures.processor(tokenizer).save_pretrained(partial / "plain")
    (partial / "expected.json").write_text(json.dumps(expected))
    partial.rename(dest)
    return dest


def _tokenizer(marks: tuple[str, ...]) -> Any:
    """Token 7 is the word ``t7``; ``marks`` are the words after these."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    every = [*(f"t{index}" for index in range(asks.VOCABULARY)), *marks]
    words = Tokenizer(WordLevel({word: index for index, word in enumerate(every)}, unk_token="t0"))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=f"t{asks.VOCABULARY - 1}", additional_special_tokens=list(marks)
    )
    # A server puts the marks of a picture before the text.
    tokenizer.chat_template = "{% for one in messages %}{{ one['content'] }}{% endfor %}"
    return tokenizer


def _led(model: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """The model of the first seed that can be given its lead, and what is expected by request."""
    for seed in range(_SEED, _SEED + _SEEDS):
        net = _random(model, seed)
        try:
            return net, _vectors(net) if KINDS[model].embeds else _widen(net, sees=KINDS[model].sees)
        except reference.AmbiguousReferenceError as error:
            failed = error
    raise failed


def _random(model: str, seed: int) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    given, kind = config(model), KINDS[model]
    made_of = AutoModelForImageTextToText if kind.sees else AutoModelForCausalLM
    net = made_of.from_config(AutoConfig.for_model(kind.family, **given, torch_dtype=torch.float32))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if tensor.ndim > 1:
                fan_in = 4 if "embed_tokens" in name else tensor[0].numel()
                scale = 1.0 if name.endswith((*checkpoints._ATTENTION_SCORES, "attn.qkv.weight")) else 2.0
                tensor.normal_(0.0, scale / math.sqrt(fan_in), generator=generator)
        if "num_experts" in given or "n_routed_experts" in given:
            checkpoints._route_by_token(net, EXPERTS, generator)
        if kind.sees:
            net.lm_head.weight[asks.VOCABULARY :] = 0.0
        for tensor in net.parameters():
            tensor.copy_(lead.representable(tensor))
    return net


def _vectors(net: Any) -> dict[str, dict[str, Any]]:
    """The vector of each prompt: the last token's state, of length one."""
    import torch

    shown = {one.id: _shown(one) for one in asks.first_requests(sees=False)}

    def vectors(of: Any) -> dict[str, Any]:
        return {
            name: torch.nn.functional.normalize(one.states(of, ())[-1].double(), dim=0) for name, one in shown.items()
        }

    with torch.no_grad():
        exact = vectors(reference.in_float64(copy.deepcopy(net)))
        for dtype in ("float16", "bfloat16"):
            rounded = vectors(lead.rounding(net, dtype))
            least = min(float(exact[name] @ rounded[name]) for name in shown)
            if 1.0 - least > (1.0 - reading.CLOSE) / _TIMES:
                raise reference.AmbiguousReferenceError(f"rounding turns a vector to a cosine of {least:.4f}")
    return {name: {"vector": one.tolist()} for name, one in exact.items()}


def _widen(net: Any, *, sees: bool) -> dict[str, dict[str, Any]]:
    """Gives every judged step its lead; what is expected by request."""
    import torch

    with torch.no_grad():
        exact = reference.in_float64(copy.deepcopy(net))
        shown = {one.id: _shown(one) for one in asks.first_requests(sees)}
        walks = {one.id: _walk(exact, shown[one.id], one.tokens) for one in asks.first_requests(sees)}
        for k in range(asks.CONVERSATIONS):
            before, name = shown[f"t{k}"], f"u{k}"
            shown[name] = replace(before, prompt=(*before.prompt, *walks[f"t{k}"].tokens, asks.FOLLOW_UP))
            walks[name] = _walk(exact, shown[name], asks.JUDGED)
        net.lm_head.weight.copy_(lead._moved(exact.lm_head.weight, list(walks.values())))
        exact.lm_head.weight.copy_(net.lm_head.weight)
        shown["g0"] = shown["p0"]
        walks["g0"], grammar = _walk_in_a_grammar(exact, shown["g0"])
        most = max(
            _change(exact, lead.rounding(net, dtype), shown[name], one)
            for dtype in ("float16", "bfloat16")
            for name, one in walks.items()
        )
        expected = {name: _expected(exact, shown[name], one) for name, one in walks.items()}
    if most * _TIMES > reference.LEAD or most * 2 > reading.NEAR:
        raise reference.AmbiguousReferenceError(f"rounding moves a logit by {most:.2f}; the lead is {reference.LEAD}")
    expected["g0"]["grammar"] = grammar
    return expected


def _shown(one: asks.Request) -> Shown:
    return Shown(tuple(pictures.expanded(one.prompt, asks.MARKS[1])), one.picture)


def _walk(exact: Any, shown: Shown, count: int) -> reference.Walk:
    """The greedy tokens that follow."""
    return _chosen(exact, shown, count, lambda logits: logits.topk(2).indices.tolist())


def _chosen(exact: Any, shown: Shown, count: int, best_and_other: Callable[[Any], list[int]]) -> reference.Walk:
    """The best tokens that follow, and by how much each leads the other one."""
    import torch

    states, tokens, leads = [], list[int](), []
    for _ in range(count):
        state = shown.states(exact, tokens)[-1]
        logits = exact.lm_head(state)
        best, other = best_and_other(logits)
        leads.append(float(logits[best] - logits[other]))
        states.append(state)
        tokens.append(best)
    return reference.Walk(shown.prompt, tokens, torch.stack(states), min(leads))


def _change(exact: Any, rounding: Any, shown: Shown, walk: reference.Walk) -> float:
    """The most that a logit of ``rounding`` differs from ``exact``'s, along ``walk``."""
    before = len(shown.prompt) - 1
    found = [of.lm_head(shown.states(of, walk.tokens[:-1])[before:]).double() for of in (rounding, exact)]
    return float((found[0] - found[1]).abs().max())


def _expected(exact: Any, shown: Shown, walk: reference.Walk) -> dict[str, Any]:
    """What is expected of one walk, with the lm head as it is now."""
    import torch

    logprobs = torch.log_softmax(exact.lm_head(walk.states), dim=-1)
    of_prompt = torch.log_softmax(exact.lm_head(shown.states(exact, ())[:-1]), dim=-1)
    following = torch.tensor(shown.prompt[1:], dtype=torch.int64)
    return {
        "tokens": walk.tokens,
        "top": logprobs.topk(asks.LOGPROBS).values.tolist(),
        "prompt": of_prompt.gather(1, following.unsqueeze(1)).squeeze(1).tolist(),
    }


def _walk_in_a_grammar(exact: Any, shown: Shown) -> tuple[reference.Walk, str]:
    """The greedy tokens among two at each step, of which the first leads, and the grammar that allows these alone.

    The tokens are words of one digit: no word is the beginning of another one.
    """
    steps = []

    def best_and_worst(logits: Any) -> list[int]:
        pair = [int(logits[:10].argmax()), int(logits[:10].argmin())]
        steps.append("(" + "|".join(f"t{token}" for token in sorted(pair)) + ")")
        return pair

    walk = _chosen(exact, shown, asks.JUDGED, best_and_worst)
    if walk.lead < reference.LEAD:
        raise reference.AmbiguousReferenceError(f"two logits are {walk.lead:.2f} apart")
    return walk, "".join(steps)
