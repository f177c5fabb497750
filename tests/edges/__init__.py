# SPDX-License-Identifier: Apache-2.0
"""The edges: the admin API and the command line."""
