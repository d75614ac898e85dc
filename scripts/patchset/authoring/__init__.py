# SPDX-License-Identifier: Apache-2.0
"""What an author did with git in the build tree becomes files again.

patches/ and overlay/ are written only by `export` and `fmt`, whole or not at all.
"""
