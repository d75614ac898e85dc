# SPDX-License-Identifier: Apache-2.0
# Thin: each target is one `patchset` line. `make help` lists them.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

VERSION ?= v0.10.1.1
PYTHON ?= python3
UPSTREAM ?=
TARGET ?=
RESCUE ?=
OFFLINE ?=
SMOKE ?= 1
SCHEDULES ?= 100000
SEED ?= 0
N ?= 60
ONLY ?=
FOUND ?=
DRY_RUN ?=
DEVICE ?= cpu
JSON ?=
FROM ?=
TO ?=
COMMIT ?=
STEP ?=
HISTORY ?=
REVIEWED ?=
AGAINST ?=
PYTHON_ENV ?= python3
ADDRESS ?=
DP ?= 2
LOCAL ?= dp.1
SIGN ?=
KEY ?=
CASES ?= 10000
FAST ?=
TRACES ?=
EVENTS ?=

BIN := .venv/bin
PATCHSET := $(BIN)/patchset
SELFTEST := PYTHONPATH=tests $(BIN)/python -m selftest
READY := .venv/.ready
DEV := .venv/.dev

SETS := $(notdir $(patsubst %/,%,$(dir $(wildcard patches/*/set.toml))))
# The sets whose runner the simulator drives: those of selftest.schedules.MUST_FIND.
PROVEN := $(shell sed -nE 's/^    "(v[0-9.]+)":.*/\1/p' tests/selftest/schedules/__init__.py)

# One word for the shell, whatever is in it.
quoted = '$(subst ','\'',$(1))'
# A variable counts as set unless it is empty, 0, no or false.
on = $(filter-out 0 no false,$(1))
json := $(if $(call on,$(JSON)),--json)
target := $(if $(TARGET),--target $(call quoted,$(TARGET)))
offline := $(if $(call on,$(OFFLINE)),--offline)
sign := $(if $(SIGN),--sign $(call quoted,$(SIGN)))
source := $(if $(UPSTREAM),--upstream $(call quoted,$(UPSTREAM))) $(offline)
dry_run := $(if $(call on,$(DRY_RUN)),--dry-run)
smoke := $(if $(call on,$(SMOKE)),,--no-smoke)
# The set's own name, where VERSION is one of its versions.
set = $(if $(wildcard patches/$(VERSION)/set.toml),$(VERSION),$(or $(shell $(PATCHSET) sets $(VERSION)),$(error VERSION=$(VERSION) names no set)))

.PHONY: help
help: ## list the targets
	@echo 'make TARGET [VERSION=$(VERSION)] [VARIABLE=value ...]'; echo
	@sed -nE -e 's/^##@ //p' -e 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18
	@echo; sed -nE 's/^#:(.*)/ \1/p' $(MAKEFILE_LIST)

# Variables, and the targets that take them; others refuse them.
#: VERSION=v0.10.1.1  the set, by its name, its vLLM version or its vllm-ascend version (any but lint, test, matrix, trace, port, docs, fuzz, crash, mutate, clean)
#: UPSTREAM=path      take upstream from an sdist, a directory or a git checkout, or from a wheelhouse (apply, revert, wheels, fmt, export, review, pin)
#: RESCUE=dir         copy modified files into this new folder, not below build/ or dist/, and give upstream's back (revert)
#: TARGET=path        work in place on a checkout or a site-packages folder (apply, status, revert)
#: OFFLINE=1          use the caches alone (any)
#: SMOKE=0            leave the smoke tests out; a tree that has not passed them is said, with exit 1 (apply)
#: DRY_RUN=1          say what would change, and change nothing (apply, revert, fmt, export, port)
#: DEVICE=cpu|npu     where the smoke tests run; for bench cpu or cuda (apply, smoke, bench)
#: INSTALLED=dir      a virtual environment or site-packages folder with the patched wheel (smoke)
#: LOCAL=dp.1         the wheels' local version label (wheels)
#: SIGN=key           sign SHA256SUMS with this minisign secret key; minisign has to be installed (wheels)
#: KEY=key.pub        the public key that must have signed SHA256SUMS (verify)
#: FROM=source        build the patched tree instead of repacking the published wheels (wheels, port)
#: FROM=set           the set to carry (wheels, port)
#: TO=set             the set to make, by its vLLM version (port)
#: COMMIT=id          the full git commit of the release's tag, where it is known (port)
#: STEP=finish|abort  once git has rebased all of a port: write the set; or forget it (port)
#: HISTORY=path      a clone of vllm-ascend, to name upstream's commits at conflicts (port)
#: REVIEWED=1         upstream's changes to code that the overlay replaces have been read (port)
#: AGAINST=series     show what became of this one: a set, a set's folder, or a git ref; or one release (review, outlook)
#: INTO=file          write the table into this document, between its marks (outlook)
#: SCHEDULES=100000   how many random schedules the patched tree is checked with (prove)
#: N=60               how many deployments are drawn (survey)
#: ONLY=a=b,c=d       these deployments instead, by their departures from the default (survey)
#: ONLY=host_time     one script of tests/benchmarks, whose tables take their place among the last whole run's (bench)
#: FOUND=1            those instead on which a patched tree was once worse (survey)
#: SEED=0             what they are drawn from (prove, survey)
#: CASES=10000        how many cases (fuzz)
#: FAST=1             three minutes instead of fifteen (bench)
#: TRACES='a b c'     the trace files of the ranks (trace)
#: EVENTS=file        where the timeline goes, as trace-event JSON for ui.perfetto.dev (trace)
#: JSON=1             print one JSON document (any but lint, test, test-set, test-unit, test-browser, test-overlay, test-cluster, test-wheels, format, fuzz, crash, mutate, coverage, screenshot, clean)
#: PYTHON_ENV=python3 the Python that vLLM runs on (cluster-verify, cluster-smoke)
#: ADDRESS=host:port  the head of the Ray cluster; by default the one of this machine (cluster-verify, cluster-smoke)
#: DP=2               ranks over the cluster's devices (cluster-smoke)
#: CHROMIUM=path      the browser of the tests (test, test-browser, screenshot)
#: PYTHON=python3     what .venv is made with (any)

# What was given on make's own command line, held against the list above; a make that this one calls is not asked again.
# Of several targets, one that takes the variable is enough, but for those that say where, or whether, files are changed.
everywhere := DRY_RUN TARGET
known = $(shell sed -nE 's/^\#: ([A-Z_]+)=.*/\1/p' Makefile)
near = $(shell $(PYTHON) -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1))' '$(1)' $(known))
takes = $(shell sed -nE 's/^\#: $(1)=.*\((any but |any|)([a-z, -]*)\)$$/\1 \2/p' Makefile | tr -d ,)
unfit = $(if $(filter any,$(2)),$(if $(filter but,$(2)),$(filter $(2),$(MAKECMDGOALS))),$(if $(filter-out $(filter $(everywhere),$(1)),$(1)),$(if $(filter $(2),$(MAKECMDGOALS)),,$(MAKECMDGOALS)),$(filter-out $(2),$(MAKECMDGOALS))))
check = $(if $(2),$(if $(call unfit,$(1),$(2)),$(error $(1) is not for `make $(call unfit,$(1),$(2))`; next: `make help` says which targets take it)),$(error no variable $(1)$(patsubst %,; is it %?,$(call near,$(1)));\
  next: `make help` lists them))
ifneq ($(PATCHSET_MAKE),$(CURDIR))
$(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $(v))),$(call check,$(v),$(call takes,$(v)))))
endif
export PATCHSET_MAKE := $(CURDIR)

##@ The patched tree
.PHONY: apply status revert doctor
apply: $(READY) ## patch vllm-ascend, check it and run the quick smoke tests
	@$(PATCHSET) apply $(VERSION) $(target) $(source) $(dry_run) $(smoke) --device $(DEVICE) $(json)

status: $(READY) ## say whether the tree is pristine, applied, partial or modified
	@$(PATCHSET) status $(VERSION) $(target) $(json)

revert: $(READY) ## give upstream's exact bytes back
	@$(PATCHSET) revert $(VERSION) $(target) $(source) $(dry_run) $(if $(RESCUE),--rescue $(call quoted,$(RESCUE))) $(json)

doctor: $(READY) ## say what this machine has and lacks, and what to do about it
	@$(PATCHSET) doctor $(VERSION) $(offline) $(json)

##@ Wheels
.PHONY: wheels verify
wheels: $(READY) ## make patched wheels from the published ones, with an index, in dist/
	@$(PATCHSET) wheels $(VERSION) --local $(call quoted,$(LOCAL)) --from $(or $(FROM),wheels) $(source) $(sign) $(json)

verify: $(READY) ## check dist/ as a cluster would: the signature, each file's digest, each wheel's files
	@$(PATCHSET) verify --dist dist/$(set) --set $(set) $(if $(KEY),--key $(call quoted,$(KEY))) $(json)

##@ Proof
.PHONY: smoke evidence defects matrix prove survey upstream-tests trace runtime
smoke: $(READY) ## run all smoke tests on the patched tree
	@$(PATCHSET) smoke $(VERSION) --device $(DEVICE) $(if $(INSTALLED),--installed $(call quoted,$(INSTALLED))) $(offline) $(json)

evidence: $(READY) ## run all smoke tests of a set, and keep what each said in patches/<set>/evidence.json
	@$(PATCHSET) evidence $(VERSION) $(offline) $(json)

defects: $(READY) ## show each upstream defect on the pristine tree, and its absence from the patched one
	@$(PATCHSET) defects $(VERSION) $(offline) $(json)

matrix: $(READY) ## the tables of defects of all sets, side by side
	@$(SELFTEST) matrix $(offline) $(json)

prove: $(READY) ## check the ranks' decisions over random schedules, and that the checker finds known defects
	@$(SELFTEST) prove $(VERSION) --schedules $(SCHEDULES) --seed $(SEED) $(offline) $(json)

survey: $(DEV) ## compare the patched tree with the pristine one on deployments that are drawn
	@$(SELFTEST) survey $(VERSION) --count $(N) --seed $(SEED) $(if $(ONLY),--only $(call quoted,$(ONLY))) $(if $(call on,$(FOUND)),--found --as-drawn) $(offline) $(json)

upstream-tests: $(READY) ## run upstream's unit tests on the pristine and the patched tree
	@$(SELFTEST) upstream-tests $(VERSION) $(offline) $(json)

trace: $(READY) ## line up the TRACES of the ranks, and name the first step where they differ
	@$(PATCHSET) trace $(TRACES) $(if $(EVENTS),--events $(call quoted,$(EVENTS))) $(json)

runtime: $(READY) ## build the Python environment of the smoke tests
	@$(PATCHSET) runtime $(VERSION) $(offline) $(json)

##@ Ray clusters
.PHONY: cluster-verify cluster-smoke
cluster := --python $(call quoted,$(PYTHON_ENV)) $(if $(ADDRESS),--address $(call quoted,$(ADDRESS)))

cluster-verify: $(READY) ## on a node: say what every node of the Ray cluster has installed
	@$(PATCHSET) cluster verify $(VERSION) $(cluster) $(json)

cluster-smoke: $(READY) ## on a node: verify, then run the synchronisation across the nodes' devices
	@$(PATCHSET) cluster smoke $(VERSION) --dp $(DP) $(cluster) $(json)

##@ Authoring and review
.PHONY: fmt export review stats
fmt: $(READY) ## rewrite the patches as git writes them; hunks edited by hand are counted anew
	@$(PATCHSET) fmt $(VERSION) $(source) $(dry_run) $(json)

export: $(READY) ## write patches/ and the overlay from the commits of the applied tree
	@$(PATCHSET) export $(VERSION) $(source) $(dry_run) $(json)

review: $(READY) ## write the review page of the diff against upstream, and its Markdown
	@$(PATCHSET) review $(VERSION) $(if $(AGAINST),--against $(call quoted,$(AGAINST))) $(source) $(json)

stats: $(READY) ## count the lines that patches and overlay add and remove
	@$(PATCHSET) stats $(VERSION) $(json)

##@ Porting
.PHONY: port outlook pin screenshot docs
port: $(READY) ## carry a set to another upstream release
	@$(PATCHSET) port $(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO)) $(if $(COMMIT),--commit $(COMMIT)) $(if $(STEP),--$(STEP)) \
	  $(if $(HISTORY),--history $(call quoted,$(HISTORY))) \
	  $(if $(call on,$(REVIEWED)),--reviewed) $(dry_run) $(offline) $(json)

outlook: $(READY) ## what newer upstream releases would make of the patches
	@$(PATCHSET) outlook $(VERSION) $(if $(AGAINST),--against $(AGAINST)) $(if $(INTO),--into $(call quoted,$(INTO))) \
	  $(offline) $(json)

pin: $(READY) ## write the set's digests into its set.toml
	@$(PATCHSET) pin $(VERSION) $(source) $(json)

docs: $(DEV) ## write the tables of docs/, of the evidence and of lint's codes
	@$(SELFTEST) documents $(json)

screenshot: $(DEV) review ## photograph the review page for the README
	$(BIN)/python tests/browser/screenshot.py build/$(set)/review/index.html docs

##@ Tests and checks
.PHONY: test test-set lint format test-unit test-browser test-overlay test-cluster test-wheels coverage fuzz crash mutate bench clean clean-all
test: lint ## all checks and tests, of every set, and how much of the tool they run
	@$(emptied)
	@$(measured); $(MAKE) --no-print-directory test-unit test-browser; \
	  for set in $(SETS); do $(MAKE) --no-print-directory test-set VERSION=$$set; done
	@$(SELFTEST) matrix $(offline)
	@$(covered)

test-set: test-overlay test-wheels ## the tests of one set
	@$(SELFTEST) survey $(VERSION) --turn "$$(git rev-parse HEAD)" --as-drawn $(offline)
	@$(PATCHSET) evidence $(VERSION) --check $(offline)

lint: $(DEV) ## ruff, mypy --strict, import-linter, codespell; patches, series, overlay and pins
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	@$(SELFTEST) overlay-types
	$(BIN)/codespell
	$(PATCHSET) lint $(offline)

format: $(DEV) ## let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-unit: $(DEV) ## tests of the tool; no torch, no network
	$(BIN)/pytest -n auto --dist worksteal --doctest-modules scripts/patchset tests/unit tests/fuzz

test-browser: $(DEV) ## tests of the review page in Chromium; CHROMIUM=path names another one
	$(BIN)/pytest tests/browser

test-overlay: $(READY) ## tests of the overlay, the stand-in and the cluster checks, with torch, gloo and Ray
	@$(SELFTEST) overlay-tests $(VERSION) $(offline)
	@$(PATCHSET) export $(VERSION) $(source) --check
	@$(if $(filter $(set),$(PROVEN)),$(SELFTEST) prove $(VERSION) --schedules 1000 $(offline))

test-cluster: $(READY) ## the same, with nodes and ranks that hang or die: some minutes more
	@$(SELFTEST) overlay-tests $(VERSION) --slow $(offline)

fuzz: $(DEV) ## random trees, edits and lies: what git writes it reads back, and no lie; CASES times each
	PATCHSET_FUZZ=$(CASES) $(BIN)/pytest -n auto --dist worksteal --timeout 0 tests/fuzz

crash: $(DEV) ## kill the tool at every system call that changes the disk, and at 360 moments
	PATCHSET_KILLS=all $(BIN)/pytest -n auto --dist worksteal tests/unit/test_kill.py

# Every process of the tool's Python is measured; the report fails below 95 %. A line that calls make is run by
# `make -n` too, so emptying has a line of its own.
emptied = rm -rf build/coverage; mkdir -p build/coverage
measured = export COVERAGE_PROCESS_START='$(CURDIR)/pyproject.toml' COVERAGE_FILE='$(CURDIR)/build/coverage/data'
covered = export COVERAGE_FILE=build/coverage/data; $(BIN)/coverage combine --quiet; $(BIN)/coverage report

coverage: $(DEV) ## the same for one set, without smoke tests: how much of the tool its tests run, by branch
	@$(emptied)
	@$(measured); for part in test-unit test-overlay test-wheels; do $(MAKE) --no-print-directory $$part; done
	@$(covered)

# mutmut wants src/ and a folder of its own; [tool.mutmut] says what it changes and which tests must notice.
mutate: $(DEV) ## change the wheel writer in small ways with mutmut; lists what no test notices
	rm -rf build/mutate; mkdir -p build/mutate/tests
	cp -R scripts build/mutate/src; cp -R tests/unit tests/selftest build/mutate/tests; cp pyproject.toml build/mutate
	cd build/mutate; ../../$(BIN)/mutmut run; ../../$(BIN)/mutmut results

test-wheels: $(DEV) ## the wheels: two builds alike, install, verify, a few smoke tests, uninstall; from source
	$(BIN)/pytest tests/wheels --set $(set)

bench: $(DEV) ## measure the patched tree against the pristine one, in turns; about 15 minutes
	@$(SELFTEST) bench $(VERSION) $(if $(call on,$(FAST)),--fast) $(if $(ONLY),--only $(call quoted,$(ONLY))) --device $(DEVICE) $(offline) $(json)

clean: ## remove build/, dist/ and .venv, unless there is work in them that is nowhere else
	@if [ -e build ] || [ -e dist ]; then $(MAKE) --no-print-directory $(READY) && $(PATCHSET) unsaved; fi
	rm -rf build dist .venv

clean-all: ## the same, whatever is lost
	rm -rf build dist .venv

# .venv, compared by content, and by the folder that it was made for: see scripts/bootstrap.py.
ifneq ($(shell cat .venv/.made-for 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif
$(READY): requirements/bootstrap.txt requirements/tool.txt pyproject.toml
	@{ \
	for program in git $(PYTHON); do command -v $$program >/dev/null || { echo "error: $$program is needed and not on PATH" >&2; exit 2; }; done; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; echo "next: make PYTHON=python3.11 ..." >&2; exit 2; }; \
	$(PYTHON) scripts/bootstrap.py tool $(offline); \
	}

$(DEV): $(READY) requirements/dev.txt
	@$(PYTHON) scripts/bootstrap.py dev $(offline)
