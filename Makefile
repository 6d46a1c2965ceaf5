# Two commands do everything on a machine with Go: make quickstart, make test. The others are their parts, and what
# maintainers use.

GO       ?= go
FUZZTIME ?= 20s
NAME     ?= $(name)

# Modules that are built and tested on their own.
EXAMPLES := examples/service examples/oauth

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: build ## store credentials encrypted and read them back, on a throw-away SQLite file
	@bin/credent quickstart

.PHONY: build
build: ## build bin/credent
	@$(GO) build -buildvcs=false -o bin/credent ./cmd/credent

.PHONY: test
test: setup verify lint unit race fuzz ## run every check and test, on a real Postgres

.PHONY: setup
setup: ## install what the tests need and is not there: Postgres, PgBouncer, Python with SQLAlchemy, a C compiler
	scripts/need postgres
	scripts/need pgbouncer
	scripts/need python
	scripts/need gcc

.PHONY: generate
generate: ## regenerate package ent from ent/schema
	$(GO) generate ./ent

.PHONY: verify
verify: ## check that generated code and migrations are up to date
	scripts/verify

.PHONY: migration
migration: ## write the next migration files: make migration name=add_column
	@test -n "$(NAME)" || { echo 'usage: make migration name=what_it_does' >&2; exit 2; }
	$(GO) run ./internal/migration -name "$(NAME)"

.PHONY: lint
lint: ## check style, and that go.mod is tidy
	$(GO) mod tidy -diff
	$(foreach m,$(EXAMPLES),$(GO) -C $(m) mod tidy -diff &&) true
	$(GO) tool -modfile=tools.mod golangci-lint run ./...

.PHONY: unit
unit: ## run all tests
	$(GO) test -timeout 20m ./...
	$(foreach m,$(EXAMPLES),$(GO) -C $(m) test ./... &&) true

.PHONY: integration
integration: ## run the tests on Postgres only
	$(GO) test -timeout 20m ./integration/...

.PHONY: race
race: ## run all tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (20s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz

.PHONY: cover
cover: ## print the coverage of the hand-written code by all tests
	$(GO) test -coverprofile=cover.out -coverpkg=.,./internal/...,./migrate/... ./...
	$(GO) tool cover -func=cover.out | tail -n 1
