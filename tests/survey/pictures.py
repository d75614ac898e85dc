# SPDX-License-Identifier: Apache-2.0
"""Pictures, and a small Qwen2-VL that is shown them.

A picture is drawn here; in a prompt it is the three tokens of `MARKS`, and Hugging Face's and vLLM's processors put
`TOKENS` in place of the middle one. The marks' ids are above those of `asks.VOCABULARY`, and the lm head never gives
them: an answer holds no mark.

The runtime has no torchvision, which Hugging Face's processor of videos needs, so `relax_processor` takes it away. The
stand-in has what this model's vision tower calls, but its npu_rotary_mul gives float32 where the cosines are float32:
`install` makes it give the type that it is given, as the layers after it need.
"""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WORDS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
VOCABULARY = 390
"""Words of this model: those of `asks`, those of `WORDS`, and as many as make 2 and 3 divide their number."""
_PATCH, _MERGED = 4, 2
_SIDE = 16
TOKENS = (_SIDE // _PATCH // _MERGED) ** 2
"""Tokens of one picture."""
PICTURES = 3
_HEADS, _HIDDEN = 6, 96


def marks(first: int) -> tuple[int, int, int]:
    """The tokens of a picture in a prompt, where ``first`` words come before `WORDS`."""
    return first, first + 1, first + 2


def expanded(prompt: Sequence[int], mark: int) -> list[int]:
    """A prompt as the model gets it."""
    return [token for one in prompt for token in ([one] * TOKENS if one == mark else [one])]


def picture(index: int) -> Any:
    """A picture of ``_SIDE`` times ``_SIDE`` points, another one for each index."""
    import numpy
    from PIL import Image

    rows, columns, colours = numpy.indices((_SIDE, _SIDE, 3))
    points = (rows * (5 + 7 * index) + columns * (11 + index) + colours * (60 + 31 * index)) * 3 % 256
    return Image.fromarray(points.astype(numpy.uint8))


def address(index: int) -> str:
    """The picture as a URL that a chat carries."""
    stream = io.BytesIO()
    picture(index).save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def config(first: int, common: dict[str, Any]) -> dict[str, Any]:
    """Of the model; ``common`` is that of its text model as far as other models share it."""
    start, image, end = marks(first)
    text = common | {
        "vocab_size": VOCABULARY,
        "num_attention_heads": _HEADS,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 2,
        "embed_dim": 32,
        "num_heads": 2,
        "hidden_size": _HIDDEN,
        "mlp_ratio": 2,
        "patch_size": _PATCH,
        "spatial_merge_size": _MERGED,
        "temporal_patch_size": 2,
    }
    tokens = {"vision_start_token_id": start, "image_token_id": image, "vision_end_token_id": end}
    return {"text_config": text, "vision_config": vision, "video_token_id": end + 1, **tokens, **text}


def relax_processor() -> None:
    """Lets Hugging Face's processor of this model do with pictures alone, and with words of any tokenizer."""
    from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

    Qwen2VLProcessor.attributes = ["image_processor", "tokenizer"]
    Qwen2VLProcessor.get_attributes = staticmethod(lambda: Qwen2VLProcessor.attributes)  # of transformers 5
    Qwen2VLProcessor.tokenizer_class = "AutoTokenizer"


def install() -> None:
    """Lets an engine of this process serve the model on the stand-in."""
    import torch_npu

    relax_processor()
    rotated = torch_npu.npu_rotary_mul

    def npu_rotary_mul(x: Any, *more: Any, **named: Any) -> Any:
        return rotated(x, *more, **named).to(x.dtype)

    torch_npu.npu_rotary_mul = npu_rotary_mul


def processor(tokenizer: Any) -> Any:
    """What makes a prompt's pictures the model's input."""
    from transformers.models.qwen2_vl import Qwen2VLProcessor

    relax_processor()
    return Qwen2VLProcessor(image_processor=_image_processor(), tokenizer=tokenizer)


@dataclass(frozen=True)
class Shown:
    """What a model gets of a request: the tokens of its prompt, a picture's in full, and the picture, if any."""

    prompt: tuple[int, ...]
    picture: int | None

    def states(self, net: Any, more: Sequence[int]) -> Any:
        """Hugging Face's last hidden states of the prompt and of ``more`` tokens after it: [tokens, hidden size]."""
        import torch

        given = {}
        if self.picture is not None:
            found = _image_processor()(picture(self.picture), return_tensors="pt")
            given = {"pixel_values": found["pixel_values"].to(net.dtype), "image_grid_thw": found["image_grid_thw"]}
        ids = torch.tensor([[*self.prompt, *more]])
        if given and "mm_token_type_ids" in inspect.signature(net.model.forward).parameters:  # of transformers 5
            given["mm_token_type_ids"] = (ids == net.config.image_token_id).int()
        # Without a mask Hugging Face takes positions that do not grow by one, as a picture's, for several sequences.
        return net.model(ids, attention_mask=torch.ones_like(ids), use_cache=False, **given).last_hidden_state[0]


def _image_processor() -> Any:
    from transformers.models.qwen2_vl import Qwen2VLImageProcessor

    points = {"min_pixels": _SIDE * _SIDE, "max_pixels": _SIDE * _SIDE}
    return Qwen2VLImageProcessor(patch_size=_PATCH, merge_size=_MERGED, temporal_patch_size=2, **points)
