# SPDX-License-Identifier: Apache-2.0
"""Requests of token ids to an engine that has no tokenizer."""

from typing import Any


class _None:
    """A group of tokenizers that has none."""

    def get_lora_tokenizer(self, _request: Any) -> None:
        return None


def accept(engine: Any) -> None:
    """Lets vLLM 0.10.0 take them too: it asks for a request's tokenizer whether there is one or not."""
    processor = getattr(engine, "processor", None)
    if processor is not None and processor.tokenizer is None:
        processor.tokenizer = _None()
