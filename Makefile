# The front door. `make` alone lists the targets; CI calls the same ones.

CARGO ?= cargo
TOOLS := $(CURDIR)/target/tools
DENY_VERSION := 0.20.2
FUZZ_SECONDS ?= 60
COMPOSE ?= $(shell if docker compose version >/dev/null 2>&1; then echo docker compose; else echo docker-compose; fi)
COMPOSE_FILE := docker/docker-compose.yml
SEEDS ?= 1..101
NIGHT ?= 10000..40000
MINUTES ?= 10
N ?= 2

.PHONY: help run test verify fix build sim sim-night teeth up scale down test-docker fuzz

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: build ## Start a three-node mesh on this machine (release build; Ctrl-C stops it)
	./target/release/keyval local

test: build ## Run all tests: facts, stories, random seeds, real processes (of the release build)
	KEYVAL_BINARY=$(CURDIR)/target/release/keyval $(CARGO) test --locked

verify: ## Check format, lints, docs and licences; changes nothing
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features planted -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet
	$(MAKE) --no-print-directory $(TOOLS)/bin/cargo-deny
	$(CARGO) fetch --locked --quiet
	$(TOOLS)/bin/cargo-deny --offline --log-level error check licenses bans sources
	@docker/advisories.sh $(TOOLS)/bin/cargo-deny

fix: ## Format, and apply what the linter can mend by itself
	$(CARGO) fmt
	$(CARGO) clippy --fix --allow-dirty --allow-staged --all-targets
	$(CARGO) fmt

build: ## Build the release binary
	$(CARGO) build --release --locked

sim: build ## Random worlds under the checkers, about a minute of them: make sim SEEDS=1..101 MINUTES=10
	./target/release/keyval sim run --seeds $(SEEDS) --minutes $(MINUTES)

sim-night: build ## The same for hours, and what all such runs of this commit came to: make sim-night NIGHT=10000..40000
	@mkdir -p target/tallies
	./target/release/keyval sim run --seeds $(NIGHT) --minutes $(MINUTES) --tally target/tallies/$$(git describe --always --dirty --abbrev=12).json

fuzz: ## Hostile bytes for all that reads bytes: make fuzz FUZZ_SECONDS=60 (for each target)
	fuzz/run.sh $(FUZZ_SECONDS)

teeth: ## Plant known bugs, one at a time, and see that random worlds find each: make teeth BUGS="early-ack resent"
	$(CARGO) build --profile teeth --features planted --locked
	./target/teeth/keyval sim teeth $(BUGS)

up: ## Start a founder and two drones in containers
	$(COMPOSE) -f $(COMPOSE_FILE) up -d --build

scale: ## Run N drones beside the founder: make scale N=5
	$(COMPOSE) -f $(COMPOSE_FILE) up -d --no-recreate --scale drone=$(N)

down: ## Stop the containers; the founder's volume stays
	$(COMPOSE) -f $(COMPOSE_FILE) down

test-docker: ## Play the compose file: up, HELLO, scale, kill (skipped where no engine can be had)
	docker/test.sh

$(TOOLS)/bin/cargo-deny:
	$(CARGO) install cargo-deny --version $(DENY_VERSION) --locked --debug --quiet --root $(TOOLS)
