# SPDX-License-Identifier: Apache-2.0
"""Numbered SQL, run in order, never edited after a release."""
