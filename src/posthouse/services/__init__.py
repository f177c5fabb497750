# SPDX-License-Identifier: Apache-2.0
"""What a post office does: decisions, on ports and other services."""
