# SPDX-FileCopyrightText: Grey Distributed contributors
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
VENV := .venv/bin/python
BOOTSTRAP := $(PYTHON) tools/bootstrap.py
FEDERATION ?= global-grey
SCENARIO ?= federation
DO ?= test

.DEFAULT_GOAL := help
.SUFFIXES:
.NOTPARALLEL:

.PHONY: help demo demo-clean status collection bundle unit lint sanity molecule test bench mutants lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: ## deploy the document's federation on this machine (no root, no Docker)
	@$(BOOTSTRAP) demo
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/demo.py up

demo-clean: ## stop the demo and remove it
	@$(BOOTSTRAP) demo
	@$(VENV) tools/demo.py clean

status: ## the demo's status table
	@$(BOOTSTRAP) demo
	@$(VENV) tools/demo.py status

collection: ## build dist/grey-distributed-VERSION.tar.gz: the same files give the same bytes
	@$(BOOTSTRAP) demo
	@$(VENV) tools/collection.py

bundle: ## write dist/grey-bundle.tar for controllers without a network; BUNDLE='-e grey_bundle_etcd=false' and the like
	@$(BOOTSTRAP) demo
	@mkdir -p dist
	@$(VENV) tools/utf8.py .venv/bin/ansible-playbook playbooks/bundle.yml -e grey_bundle=dist/grey-bundle.tar $(BUNDLE)

unit: ## the fast loop: unit tests of the node, the collection and the tools, without those that take long
	@$(BOOTSTRAP) dev
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/lanes.py unit

lint: ## ruff, mypy, yamllint, ansible-lint, shellcheck, reuse, the house's own rules
	@$(BOOTSTRAP) dev
	@$(VENV) tools/lint.py

sanity: ## ansible-test sanity on the collection as it would be built
	@$(BOOTSTRAP) dev
	@$(VENV) tools/sanity.py

molecule: ## a fleet of hosts with systemd, in Docker: SCENARIO=federation|lifecycle|all, DO=test|create|converge|verify|destroy
	@$(BOOTSTRAP) dev
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/scenario.py $(SCENARIO) --do $(DO)

test: ## everything that CI runs: fleets, lint, sanity, unit and node tests, the demo end to end
	@$(BOOTSTRAP) dev --install-missing
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/lanes.py all

bench: ## the figures of docs/performance.md, in 12 minutes; BENCH=--write puts them there, BENCH=--help tells more
	@$(BOOTSTRAP) dev
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/lanes.py bench $(BENCH)

mutants: ## plant faults one by one; the tests must catch each
	@$(BOOTSTRAP) dev
	@$(VENV) tools/get_etcd.py
	@$(VENV) tools/lanes.py mutants

lock: ## pin the newest versions that requirements/*.in allow, with hashes
	@$(BOOTSTRAP) dev
	@$(VENV) tools/lock.py

clean: ## remove what tools made here, except .venv, etcd and a running demo
	@rm -rf dist .cache/fleet .cache/image .cache/install .cache/lint .cache/lanes .cache/sanity .cache/log .ansible .mypy_cache .pytest_cache .ruff_cache node/.mypy_cache node/.ruff_cache node/.hypothesis .hypothesis
	@find node plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
