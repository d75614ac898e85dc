# SPDX-License-Identifier: Apache-2.0
"""A stand-in for pyACL, the runtime binding of CANN."""

from acl import rt

__all__ = ["rt"]
