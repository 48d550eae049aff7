# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a node reaches others and is reached: TLS, names, one HTTP session for node-to-node traffic."""
