# SPDX-License-Identifier: Apache-2.0
"""The admin API: JSON over HTTP, on the control socket of a running server or in process for the command line."""
