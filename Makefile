# Two commands do it all: `make fresh-smoke` and `make test`. Both install what is missing first (.ci/packages.txt).
.DEFAULT_GOAL := help
CARGO ?= cargo
BINARY := target/release/clusterctl
# Builds are of the whole workspace, so that its dependencies have one set of features and are compiled once for all targets.

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Install what running needs
	@.ci/install run

install-test: ## Install what testing needs
	@.ci/install test

install-bench: ## Install what benchmarks compare with
	@.ci/install bench

build: install ## Build the one binary
	$(CARGO) build --release --locked --workspace --bin clusterctl

fresh-smoke: build ## Six machines from nothing: build, boot, test, verdict
	$(BINARY) up --detach
	$(BINARY) run fresh-smoke

lint: ## Formatting, warnings, layers, generated files
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings
	$(CARGO) xtask check-layers
	$(CARGO) xtask crdgen --check

test: install-test ## Install what is missing and run every test
	$(CARGO) fmt --all --check
	$(CARGO) build --release --workspace --all-targets --locked
	target/release/xtask check-layers
	target/release/xtask crdgen --check
	RUST_BACKTRACE=0 $(CARGO) nextest run --release --workspace --locked

fuzz: install-test ## Long runs against everything that comes from outside (SEED=… repeats one, PROPTEST_CASES=… sets its length)
	PROPTEST_CASES=$${PROPTEST_CASES:-20000} $(CARGO) nextest run --release --locked --package apiserver --no-capture -E 'binary(suite) and test(/^fuzz/)'

soak: build install-test ## Kill, pause and cut servers and etcd for half an hour and judge what clients saw (SOAK_SECONDS=1800, SEED=… repeats one)
	SOAK_SECONDS=$${SOAK_SECONDS:-1800} $(CARGO) nextest run --profile soak --release --workspace --locked --no-capture -E 'package(clusterctl) and binary(e2e) and test(/^history::/)'

soak-net: install-test ## Random networks over three hosts whose agents are killed, for ten minutes (SOAK_SECONDS=600, SEED=… repeats one)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} $(CARGO) nextest run --profile soak --release --workspace --locked --no-capture -E 'package(agent) and binary(whole) and test(/^three_hosts::/)'

bench: build ## Our figures beside the raw tools' (takes about ten minutes; BENCH="--only idle" for a part)
	$(CARGO) build --release --locked --workspace --bin clusterctl-bench
	target/release/clusterctl-bench $(BENCH)

bench-api: build ## The API under load beside raw etcd (takes about three minutes)
	$(CARGO) build --release --locked --workspace --bin clusterctl-bench
	target/release/clusterctl-bench --only api $(BENCH)

bench-net: install-bench ## Networks beside ip, nft, knot, HAProxy: ports, rules, drift, names, flow (takes about five minutes; BENCH="--net flow" for a part)
	$(CARGO) build --release --locked --workspace --bin clusterctl-bench
	target/release/clusterctl-bench --only net $(BENCH)

clean: ## Stop the controller and delete all that it made
	$(BINARY) clean

.PHONY: help install install-test install-bench build fresh-smoke lint test fuzz soak soak-net bench bench-api bench-net clean
