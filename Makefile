# Everything here needs Go and nothing else, but for the tools that Go fetches.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

GO       ?= go
FUZZTIME ?= 10s
COUNT    ?= 20
BENCH    ?= .

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: test
test: ## all tests
	$(GO) test ./...

.PHONY: race
race: ## tests under the race detector, in random order
	$(GO) test -race -short -shuffle=on -timeout 20m ./...

.PHONY: stress
stress: ## the virtual-time tests COUNT=20 times under the race detector
	$(GO) test -race -shuffle=on -count=$(COUNT) -run '$(shell .ci/virtual-time-tests)' .

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME=10s
	.ci/fuzz $(FUZZTIME)

.PHONY: cover
cover: ## coverage of the root package, by function and in bin/coverage.html
	mkdir -p bin
	$(GO) test -coverprofile=bin/coverage.out .
	$(GO) tool cover -func=bin/coverage.out
	$(GO) tool cover -html=bin/coverage.out -o bin/coverage.html

.PHONY: lint
lint: ## gofmt, vet and staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd compare && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...

.PHONY: generate
generate: ## write docs/rules.md anew
	$(GO) generate .

.PHONY: apicheck
apicheck: ## compare the exported API with the list in SPEC=../shared/spec
	.ci/apicheck $(SPEC)

.PHONY: bench
bench: ## the benchmarks of the root package, BENCH=regexp
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem .

.PHONY: bench-quick
bench-quick: ## beside hashicorp/memberlist, short; writes docs/performance.md
	cd compare && $(GO) run ./bench/cmd/report -quick -out ../docs

.PHONY: bench-compare
bench-compare: ## beside hashicorp/memberlist, in full; writes docs/performance.md
	cd compare && $(GO) run ./bench/cmd/report -full -out ../docs

.PHONY: profile
profile: ## CPU and allocation profiles of BENCH=regexp in bin/profiles
	mkdir -p bin/profiles
	cd compare && $(GO) run ./bench/cmd/report -run '$(BENCH)' -profile ../bin/profiles

.PHONY: compare
compare: ## the failure detector beside hashicorp/memberlist, quick; writes docs/detector-*
	cd compare && $(GO) run ./sim/cmd/compare -quick -out ../docs

.PHONY: compare-full
compare-full: ## the failure detector beside hashicorp/memberlist, the large grid, for hours
	cd compare && $(GO) run ./sim/cmd/compare -full -out ../docs

.PHONY: compare-parts
compare-parts: ## what each part of the failure detector is worth; writes docs/detector-parts.*
	cd compare && $(GO) run ./sim/cmd/compare -parts -seeds 1 -out ../docs

.PHONY: hostile
hostile: ## hostile input to both libraries; writes docs/hostile.md
	cd compare && $(GO) run ./hostile/cmd/hostile -out ../docs

.PHONY: interop
interop: ## clusters of both libraries
	cd compare && $(GO) test -race -timeout 60m ./interop/...

.PHONY: serf-suite
serf-suite: ## the test suite of Serf on this library
	cd compare && $(GO) run ./interop/cmd/suite

SUITE = cd compare && $(GO) run ./interop/cmd/suite -retries 3 -doc ../docs/compatibility.md

.PHONY: program-suites
program-suites: ## those of Serf, Alertmanager and Docker's NetworkDB; writes docs/compatibility.md
	$(SUITE) -module github.com/hashicorp/serf@v0.11.0
	$(SUITE) -module github.com/prometheus/alertmanager@v0.35.0 -packages ./cluster
	$(SUITE) -module github.com/moby/moby/v2@v2.0.0-beta.24 -packages ./daemon/libnetwork/networkdb -get github.com/hashicorp/serf@v0.11.0
