# Two commands do everything on a machine with Go: make quickstart, make test.
# The others are their parts and maintainers' tools.

GO       ?= go
FUZZTIME ?= 3s
NAME     ?= $(name)

# The commands know their commit if Git does, which it doesn't in an archive or
# in another user's checkout.
BUILDVCS ?= $(shell git status --porcelain >/dev/null 2>&1 && echo true || echo false)

# Separate modules: code with more dependencies than a service should get, and
# examples.
MODULES := kms otelcredent bench examples/service examples/oauth examples/graphql internal/report/browser
each     = printf '%s\n' $(1) | xargs -P 2 -I {}

# BESIDE are the packages with tests beside their code; the others run programs
# or use many databases. The race detector only checks goroutines: from the
# others it gets the tests that start some, and the tests in ALSO, which have
# parallel subtests that share the module's globals. Every other test runs once,
# without it.
PROGRAMS   := internal/cli internal/release integration/stranger codegen
BESIDE      = $(shell $(GO) list ./... | grep -vE '/($(shell echo $(PROGRAMS) | tr ' ' '|')|integration/.*)$$')
CONCURRENT  = $(GO) run ./internal/concurrent -also $(ALSO) $(FOLDERS)
ALSO       := TestEachClientHasItsKeyring,TestCopy,TestBoundService,TestServicesCannotDisagree,TestSetStateWaits,TestReadPaths
ALSO       := $(ALSO),TestWritePaths,TestRequireRowSecurityHolds

# The linter checks everything that services link in one run, so that it checks
# the modules' shared packages only once.
LINTER     := bin/golangci-lint
LINTED     := kms otelcredent
WORKSPACE  := $(CURDIR)/bin/lint.work

# The packages that make check omits: their tests need servers.
SERVERS    := /(pgserver|pgreplica|pqdeadline|credenttest|indextrigger|canary|ledger|open)$$

# Lint has vetted the code. The race detector skips SQLite's translated C, which
# is slow to compile.
TESTFLAGS  := -vet=off -timeout 20m
RACEFLAGS   = $(TESTFLAGS) $(COLLECTING) -race -gcflags=modernc.org/sqlite/lib=-race=false \
  -gcflags=modernc.org/libc=-race=false

# Packages that wait more than they compute. They run first.
WAITING    := faults silence rotation windows migrations
FIRST      := $(WAITING:%=integration/%/)
TESTED     := $(sort $(dir $(shell find integration -name '*_test.go')))
FOLDERS    := $(FIRST) $(filter-out $(FIRST) $(PROGRAMS:%=%/),$(TESTED))

# The stages that make test runs once the generated code is verified, one more
# at a time than there are cores: some wait for servers while others compute.
# Codegen and modules write files into the checkout that earlier stages mustn't
# read, and race-integration needs packages that race-beside has compiled.
STAGES     := race-beside lint sequential programs race-integration size fuzz codegen modules
CORES      := $(shell getconf _NPROCESSORS_ONLN)
BY_STAGE   := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
ifneq (,$(filter stages,$(MAKECMDGOALS)))
race-integration: race-beside
codegen modules: race-beside lint programs
endif

# Settings for tests only: no debug symbols, SQLite in C compiled in a sixth of
# the time, and compilers that collect no garbage below half a gigabyte, which
# saves a sixth of their time. The tests collect it at five times the live heap,
# which saves a fifth of their time under the race detector.
verify linter $(STAGES): export GOFLAGS := $(shell $(GO) env GOFLAGS) -ldflags=-w
verify linter $(STAGES): export CGO_CFLAGS := $(CGO_CFLAGS) -O0 -g0
verify linter $(STAGES): export GOGC := off
verify linter $(STAGES): export GOMEMLIMIT := 512MiB
COLLECTING := -exec 'env -u GOMEMLIMIT GOGC=400'

# Each way to write and to read on SQLite, and the tokens stored by each
# Postgres driver.
SMOKE := TestWritePaths$$/modernc|TestReadPaths$$/mattn|TestSecretsAreStoredAsTokens$$

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: quickstart
quickstart: build ## store credentials encrypted and read them back, on a throw-away SQLite file
	@bin/credent quickstart

.PHONY: build
build: ## build bin/credent
	@$(GO) build -buildvcs=$(BUILDVCS) -o bin/credent ./cmd/credent

.PHONY: build-kms
build-kms: ## build bin/credent-kms
	@$(GO) -C kms build -buildvcs=$(BUILDVCS) -o ../bin/credent-kms ./cmd/credent-kms

.PHONY: check
check: linter ## one minute of checks before a commit: style, the packages' own tests, SQLite, and a little Postgres
	$(GO) vet ./...
	$(GO) run ./internal/words
	$(LINTER) run ./...
	$(GO) test -short ./internal/cli $(shell printf '%s\n' $(BESIDE) | grep -vE '$(SERVERS)')
	$(GO) test -run '$(SMOKE)' ./integration/paths ./integration/store

.PHONY: test
test: setup ## run every check and test once, on a real Postgres; each stage's output comes when it ends
	@$(MAKE) --no-print-directory -j 2 $(BY_STAGE) verify linter
	@$(MAKE) --no-print-directory -j $$(($(CORES) + 1)) $(BY_STAGE) stages INSTRUMENT=own
	@test -n "$$CREDENT_TEST_CITUS_URL" || echo '*** NOT TESTED: the layout citus: CREDENT_TEST_CITUS_URL is not set; see docs/development.md, "Citus"'

.PHONY: stages
stages: $(STAGES)

.PHONY: setup
setup: ## install missing test dependencies: Postgres, PgBouncer, Python with SQLAlchemy, a C compiler, Chromium
	scripts/need postgres
	scripts/need pgbouncer
	scripts/need python
	scripts/need gcc
	scripts/need chromium

.PHONY: generate
generate: ## regenerate the ent clients, the picture in docs/architecture.md, and docs/cli.md
	$(GO) generate ./ent ./integration/sequence/ent ./integration/types/ent
	$(GO) -C bench generate ./internal/...
	$(GO) -C examples/oauth generate ./...
	$(GO) -C examples/graphql generate ./...
	$(GO) run ./internal/structure
	$(GO) run ./internal/clidoc > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

.PHONY: report-picture
report-picture: ## take the picture of the report for the docs, from a demo database
	scripts/need postgres
	scripts/need chromium
	$(GO) -C internal/report/browser run . -picture $(CURDIR)/docs/report.png

.PHONY: verify
verify: ## check that generated code and migrations are up to date
	scripts/verify

.PHONY: migration
migration: ## write the next migration files: make migration name=add_column
	@test -n "$(NAME)" || { echo 'usage: make migration name=what_it_does' >&2; exit 2; }
	$(GO) run ./internal/migration -name "$(NAME)"

.PHONY: lint
lint: linter ## check style, words and their width, and that go.mod is tidy
	$(GO) run ./internal/words
	$(GO) mod tidy -diff
	$(call each,$(MODULES)) $(GO) -C {} mod tidy -diff
	rm -f $(WORKSPACE) && GOWORK=$(WORKSPACE) $(GO) work init . $(LINTED)
	GOWORK=$(WORKSPACE) GOMEMLIMIT=3GiB $(LINTER) run ./... $(LINTED:%=./%/...)
	$(call each,$(filter-out $(LINTED),$(MODULES))) $(GO) -C {} vet ./...
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 -shellcheck= -pyflakes=

.PHONY: linter
linter:
	$(GO) build -modfile=tools.mod -o $(LINTER) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

.PHONY: vulnerabilities
vulnerabilities: ## look for known vulnerabilities in the modules' dependencies; needs the network
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...
	$(foreach m,$(MODULES),$(GO) -C $(m) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./... &&) true

.PHONY: unit
unit: modules ## run all tests without the race detector
	$(GO) test -timeout 20m ./...

.PHONY: sequential
sequential: ## run the tests that make race omits
	$(GO) test $(TESTFLAGS) $(COLLECTING) -skip "$$($(CONCURRENT))" $(FOLDERS:%/=./%)

.PHONY: programs
programs: ## run the tests that build and run programs
	$(GO) test $(TESTFLAGS) $(patsubst %,./%,$(filter-out codegen,$(PROGRAMS)))

.PHONY: codegen
codegen: ## run the tests that generate code and run it
	$(GO) test $(TESTFLAGS) ./codegen

.PHONY: modules
modules: ## run the tests of the separate modules
	$(call each,$(MODULES)) $(GO) -C {} test $(TESTFLAGS) $(COLLECTING) ./...

.PHONY: size
size: ## compare the binaries of a service with one encrypted field and of plain ent; fails above 1.15
	scripts/size

.PHONY: integration
integration: ## run the tests on Postgres only
	$(GO) test -timeout 20m ./integration/...

.PHONY: killed
killed: ## kill processes twice while they record a million reveals, on Postgres and SQLite; long
	CREDENT_AUDIT_REVEALS=1000000 $(GO) test -timeout 60m -count 1 -run TestKilled -v ./audit

.PHONY: windows
windows: ## take 200,000 rows from plaintext to tenants' keys and back, beside writers in Go and Python; long
	scripts/need postgres
	scripts/need python
	CREDENT_TEST_WINDOW_ROWS=200000 $(GO) test -count=1 -v -timeout 4h -run 'TestWindows$$' ./integration/windows

.PHONY: citus
citus: ## test the layout citus on the cluster at CREDENT_TEST_CITUS_URL, which scripts/citus starts
	@test -n "$$CREDENT_TEST_CITUS_URL" || { echo 'make citus: CREDENT_TEST_CITUS_URL is not set; see docs/development.md, "Citus"' >&2; exit 2; }
	$(GO) test -count=1 -v -timeout 30m ./integration/citus
	$(GO) test -count=1 -v -timeout 30m -run '/citus/' ./integration/partitions

.PHONY: dashboard
dashboard: ## redraw the pictures of the dashboard, from its JSON and half a minute of load
	$(GO) -C otelcredent test -count=1 -run 'TestPicture$$' ./dashboard -update

.PHONY: faults
faults: ## break servers, networks, disks and commands beside writers, and print the results; about 10 minutes
	scripts/need postgres
	scripts/need pgbouncer
	CREDENT_TEST_FAULTS=full $(GO) test -count=1 -v -timeout 60m -run 'TestFaults$$' ./integration/faults

.PHONY: kms-test
kms-test: ## test wrapped keyrings on a real Vault, built from the module proxy; the first build is slow
	scripts/vault
	CREDENT_TEST_VAULT_SERVER=$(CURDIR)/bin/vaultserver $(GO) -C kms test -count=1 -run 'Vault' -v .

.PHONY: race
race: race-beside race-integration ## run the tests beside the code, and all that start goroutines, under the race detector

.PHONY: race-beside
race-beside:
	CGO_ENABLED=1 $(GO) test $(RACEFLAGS) $(BESIDE)

.PHONY: race-integration
race-integration:
	CGO_ENABLED=1 $(GO) test $(RACEFLAGS) -run "$$($(CONCURRENT))" $$($(subst -also,-packages -also,$(CONCURRENT)))

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (3s)
	FUZZTIME=$(FUZZTIME) INSTRUMENT=$(INSTRUMENT) scripts/fuzz

.PHONY: bench
bench: ## measure Credent beside its peers, and write bench/report.md; about half an hour
	scripts/need postgres
	scripts/need python
	$(GO) -C bench run .

.PHONY: bench-quick
bench-quick: ## the same with fewer rows and rounds, within 2 minutes; writes nothing
	scripts/need postgres
	scripts/need python
	$(GO) -C bench run . -quick

.PHONY: scale
scale: ## measure the commands on 10 million rows, and write bench/scale/report.md; up to an hour, 25 GB of disk
	scripts/need postgres
	$(GO) -C bench run ./scale

.PHONY: cover
cover: ## print the coverage of the hand-written code by all tests
	$(GO) test -coverprofile=cover.out -coverpkg=.,./internal/...,./migrate/... ./...
	$(GO) tool cover -func=cover.out | tail -n 1
