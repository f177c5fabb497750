# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of everything that takes octets from outside: `python -m fuzz TARGET|all`.

Invariant: no input may raise anything but the reader's own errors, take more than linear time or more memory than
its limit; a target raises only where such a rule is broken.
"""
