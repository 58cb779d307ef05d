# Two commands set Strake up: `make run` and `make test`. Everything else is for
# those who work on it.
SHELL := /bin/bash
GO    ?= go
BIN   := bin/strake
ROOT  := $(shell id -u)

# Where `make run` mounts the file system; the data directory is Strake's own
# default and is printed at start.
MOUNT ?= $(HOME)/strake

.DEFAULT_GOAL := help
.PHONY: help run test check lint build needs acceptance bench long race chaos fuzz docs clean

help: ## list these targets
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n",$$1,$$2}' $(MAKEFILE_LIST)

run: build ## build and start Strake with no configuration, mounted at ~/strake (MOUNT=DIR for elsewhere)
	@tools/needs run
	@exec $(BIN) serve --mount "$(MOUNT)"

test: build ## install what the tests need and run them all
	@tools/needs test
	@tools/test

build: ## build bin/strake
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/strake

check: lint test ## lint and test

lint: ## vet and golangci-lint, whose version tools/go.mod pins
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod golangci-lint run ./...

acceptance: build ## the real jobs on a real mount, with kill -9 in the middle of each
	@tools/needs acceptance
	$(GO) run ./test/acceptance -strake $(BIN)

bench: build ## compare with a loopback mount of the same disk
	@tools/needs acceptance
	$(GO) run ./bench

long: build ## the long campaigns: crash points, kill -9, random histories
	STRAKE_LONG=1 $(GO) test -timeout 6h -v ./test/... 

race: ## the packages under the race detector, one after the other: two hours on two processors
	$(GO) test -race -p 1 -timeout 2h ./internal/... ./cmd/...

chaos: ## 500 lives of 200 steps in which everything fails that may (CHAOS="FROM TO" for others); see docs/developing.md
	@tools/chaos $(CHAOS)

fuzz: ## run every fuzz test for FUZZTIME (default 60s)
	@tools/fuzz $${FUZZTIME:-60s}

docs: build ## write the generated pages under docs/
	$(BIN) docs --out docs

clean: ## remove what was built
	rm -rf bin
