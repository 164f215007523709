# Everything one does with the project. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# With nextest each test is a process of its own; without it cargo's own runner
# does, and a test's stray error may be blamed on its neighbour.
NEXTEST := $(shell command -v cargo-nextest)
RUN := $(if $(NEXTEST),cargo nextest run,cargo test)

.PHONY: help
help: ## What there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: demo
demo: ## Two rooms, loss, a killed worker: heard, measured and written as WAV
	scripts/demo.sh

.PHONY: build
build: ## The binaries, optimised
	cargo build --release --locked

.PHONY: test
test: tools fmt clippy doc deny unit container ## Everything that must hold before a change lands
	@echo "make test: all passed"

.PHONY: tools
tools: ## The programs that the tests use beside Rust, installed where that can be done
	@scripts/test-tools.sh

.PHONY: fmt
fmt: ## Formatting, checked
	cargo fmt --check

.PHONY: clippy
clippy: ## Lints; a warning is an error
	cargo clippy --locked --all-targets --all-features -- -D warnings

.PHONY: doc
doc: ## The documentation's links; a warning is an error
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

.PHONY: deny
deny: ## Licences, sources and bans of what is built in
	"$$(scripts/cargo-deny.sh)" --all-features check bans licenses sources

.PHONY: unit
unit: ## All tests, against a real nats-server as a process
	@scripts/nats-server.sh
	$(RUN) --locked
	cargo test --locked --doc

# The same tests with the server in a container, through testcontainers. They
# are another run of what `unit` has run, so a machine without Docker misses
# nothing of the project's own.
.PHONY: container
container: ## The tests of server and roles once more, the server in a container
	@if docker info >/dev/null 2>&1; then \
	    TEST_NATS=container $(RUN) --locked --test support_works --test permissions --test roles --test slow_consumer; \
	else \
	    echo "container: no Docker engine answers; the same tests ran against a process"; \
	fi

# As many seeds of the simulations as wanted: make soak SEEDS=100000 FROM=5000.
SEEDS ?= 10000
FROM ?= 0

.PHONY: soak
soak: ## Control and media plane in virtual time, SEEDS=10000 seeds from FROM=0 on
	SIM_SEEDS=$(SEEDS) SIM_FROM=$(FROM) cargo test --locked --profile demo --test sim --test media -- --nocapture whatever

.PHONY: bench
bench: ## Times, instructions and CPU: pieces, rooms, the smallest relay, peers
	scripts/bench.sh

.PHONY: compose-check
compose-check: ## Builds the images, starts docker-compose.yml, hears a room, stops it
	scripts/compose-check.sh
