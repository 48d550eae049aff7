# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node answers over HTTP: the key-value API, health and metrics, the control plane."""
