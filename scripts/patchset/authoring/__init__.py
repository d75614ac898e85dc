# SPDX-License-Identifier: Apache-2.0
"""What an author did with git becomes files again, whole or not at all: only `export` and `fmt` write them."""
