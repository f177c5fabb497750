# SPDX-License-Identifier: Apache-2.0
"""Translate events to service calls and outcomes to replies; no rules here."""
