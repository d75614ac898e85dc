# SPDX-License-Identifier: Apache-2.0
"""What the ranks tell each other over the store, in requests that any release's store serves.

The store of torch up to 2.7 reads 4096 bytes at once, and closes the connection of whoever sends a request that ends
with such a buffer, or two requests at once of which the second goes on in the next buffer
(TCPStoreLibUvBackend.cpp, ChunkedStream). So each request here is well below that, and its answer is waited for;
``Store.set`` has no answer.
"""

from __future__ import annotations

import base64
import zlib
from typing import Mapping, TypeVar

from torch.distributed import Store

_PREFIX = "vllm_ascend/data_parallel"
# Characters of a value, and keys, in one request. vLLM's and torch's own prefixes take some 50 characters of a key.
_PIECE = 2048
_KEYS = 24

Name = TypeVar("Name")


def key(*parts: object) -> str:
    """Where a value is in the store."""
    return "/".join(map(str, (_PREFIX, *parts)))


def tell(store: Store, where: str, value: str, before: str = "") -> None:
    """Set a short value that is not empty; ``before`` is the one that is there, as far as is known."""
    held = store.compare_set(where, before, value)
    if held != value.encode():
        store.compare_set(where, held.decode(), value)


def tell_text(store: Store, where: str, text: str) -> None:
    """Set a text of any length."""
    packed = base64.b85encode(zlib.compress(text.encode())).decode()
    pieces = [packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE)]
    for number, piece in enumerate(pieces):
        tell(store, f"{where}/{number}", piece)
    tell(store, where, str(len(pieces)))


def told_text(store: Store, where: str) -> str:
    """The inverse of ``tell_text``; waits for it, with the store's own limit."""
    pieces = [store.get(f"{where}/{number}") for number in range(int(store.get(where)))]
    return zlib.decompress(base64.b85decode(b"".join(pieces))).decode()


def told(store: Store, keys: Mapping[Name, str]) -> dict[Name, bytes]:
    """The values of those keys that are there: two requests for a few keys, some more for each that is not there."""
    names = list(keys)
    found = {}
    for at in range(0, len(names), _KEYS):
        found.update(_told(store, {name: keys[name] for name in names[at : at + _KEYS]}))
    return found


def _told(store: Store, keys: Mapping[Name, str]) -> dict[Name, bytes]:
    if store.check(list(keys.values())):
        return dict(zip(keys, store.multi_get(list(keys.values()))))
    if len(keys) == 1:
        return {}
    items = list(keys.items())
    halves = items[: len(items) // 2], items[len(items) // 2 :]
    return {name: data for half in halves for name, data in _told(store, dict(half)).items()}
