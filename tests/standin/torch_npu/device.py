# SPDX-License-Identifier: Apache-2.0
"""The "npu" device, mapped to the CPU.

``torch.device("npu")`` and ``torch.device("npu:3")`` become ``NPU``, which is torch's own ``cpu:0``. A tensor made
there reports plain ``cpu``, so nothing dispatches differently; and because ``cpu:0`` is not equal to ``cpu``, torch
itself makes ``host_tensor.to(NPU)`` a copy, as it is on a real device: code that reuses a host buffer after an upload
stays correct.

torch's C++ argument parser does not know the name "npu", so every factory function and every method that takes a device
gets a thin wrapper that resolves it first. Pinned host memory needs an accelerator and is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._device as torch_device_context

_TorchDevice = torch.device

CPU = _TorchDevice("cpu")
NPU = _TorchDevice("cpu", 0)

# Told about each tensor that comes to live on the NPU, and each that leaves it; set by trace.py, else None.
on_placed: Callable[[torch.Tensor, bool], None] | None = None


def resolve(device: Any) -> Any:
    """``NPU`` for whatever names it ("npu", "npu:1", an index), anything else unchanged."""
    if isinstance(device, str):
        return NPU if device == "npu" or device.startswith("npu:") else device
    if isinstance(device, int) and not isinstance(device, bool):
        return NPU
    return device


def is_npu(device: Any) -> bool:
    """Whether `device`, after `resolve`, is the NPU."""
    return isinstance(device, _TorchDevice) and device == NPU


class _DeviceType(type):
    """Makes the class below stand for torch's own device type wherever types are compared."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args = (
                kwargs.get("type", args[0] if args else None),
                *((kwargs["index"],) if "index" in kwargs else args[1:]),
            )
        first = args[0] if args else None
        if isinstance(first, (str, int)) and resolve(first) is NPU:
            return NPU
        return _TorchDevice(*args)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _TorchDevice)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _TorchDevice)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is _TorchDevice

    def __hash__(cls) -> int:
        return hash(_TorchDevice)


class _Device(metaclass=_DeviceType):
    """``torch.device`` that also takes "npu"."""


_Device.__name__ = _Device.__qualname__ = "device"
_Device.__module__ = "torch"


def _placed(result: Any, device: Any) -> Any:
    if on_placed is not None and isinstance(result, torch.Tensor):
        on_placed(result, is_npu(device))
    return result


def _factory(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function that takes ``device=`` and perhaps ``pin_memory=``."""

    @functools.wraps(function)
    def create(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("pin_memory", None)
        device = resolve(kwargs.get("device"))
        if device is not None:
            kwargs["device"] = CPU if is_npu(device) else device
        elif on_placed is not None:
            device = torch_device_context.CURRENT_DEVICE
        result = function(*args, **kwargs)
        return _placed(result, device) if device is not None else result

    return create


def _like_factory(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function whose result lives where its first argument does, unless ``device=`` says otherwise."""

    @functools.wraps(function)
    def create(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("pin_memory", None)
        device = resolve(kwargs.get("device"))
        if device is None:
            return function(*args, **kwargs)
        kwargs["device"] = CPU if is_npu(device) else device
        return _placed(function(*args, **kwargs), device)

    return create


def _move(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps ``Tensor.to``, whose device may come first or by name. A download is a copy too, as it is from a device."""

    @functools.wraps(function)
    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], (str, int, _TorchDevice)):
            device, args = resolve(args[0]), args[1:]
        elif "device" in kwargs:
            device = resolve(kwargs.pop("device"))
        else:
            return function(self, *args, **kwargs)
        if device is None:
            return function(self, *args, **kwargs)
        if len(args) < 3:  # else the caller said whether to copy
            kwargs.setdefault("copy", True)
        return function(self, device, *args, **kwargs)

    return to


def _move_module(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps ``Module.to``, whose own parser does not know the name either."""

    @functools.wraps(function)
    def to(self: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        if args:
            args = (resolve(args[0]), *args[1:])
        if "device" in kwargs:
            kwargs["device"] = resolve(kwargs["device"])
        return function(self, *args, **kwargs)

    return to


def _to_host(self: torch.Tensor, memory_format: torch.memory_format = torch.preserve_format) -> torch.Tensor:
    """``Tensor.cpu()``: always a copy."""
    return self.to(CPU, memory_format=memory_format)


def _to_npu(self: torch.Tensor, device: Any = None, non_blocking: bool = False, **_: Any) -> torch.Tensor:
    """``Tensor.npu()``."""
    return self.to(NPU, non_blocking=non_blocking)


def _pinned_copy(self: torch.Tensor, device: Any = None) -> torch.Tensor:
    """``Tensor.pin_memory()``: a copy, as torch documents for a tensor that is not pinned yet."""
    return self.clone()


_FACTORIES = (
    "arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace", "logspace", "ones", "rand",
    "randint", "randn", "randperm", "scalar_tensor", "tensor", "tril_indices", "triu_indices", "zeros",
)  # fmt: skip
_LIKE_FACTORIES = ("empty_like", "full_like", "ones_like", "rand_like", "randint_like", "randn_like", "zeros_like")
_NEW_METHODS = ("new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros")


def install() -> None:
    """Teaches torch the device name. Idempotent."""
    if torch.device is _Device:
        return
    torch_device_context._device_constructors()  # torch caches this set: it must hold the unwrapped functions
    torch.device = _Device  # type: ignore[misc, assignment]
    for name in _FACTORIES:
        setattr(torch, name, _factory(getattr(torch, name)))
    for name in _LIKE_FACTORIES:
        setattr(torch, name, _like_factory(getattr(torch, name)))
    for name in _NEW_METHODS:
        setattr(torch.Tensor, name, _like_factory(getattr(torch.Tensor, name)))
    torch.Tensor.to = _move(torch.Tensor.to)  # type: ignore[method-assign]
    torch.nn.Module.to = _move_module(torch.nn.Module.to)  # type: ignore[method-assign]
    torch.Tensor.cpu = _to_host  # type: ignore[method-assign]
    torch.Tensor.npu = _to_npu  # type: ignore[attr-defined]
    torch.Tensor.pin_memory = _pinned_copy  # type: ignore[method-assign, assignment]
    torch.Tensor.is_npu = property(lambda self: True)  # type: ignore[attr-defined]
