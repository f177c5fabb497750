# SPDX-License-Identifier: Apache-2.0
"""Signatures on mail; policies of other domains."""
