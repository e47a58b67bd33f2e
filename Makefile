# pgkeep: the two commands a newcomer needs are `make demo` and `make test`.
# Both install what they need; see state/postgres/pgtest/install.sh for what that is.

SHELL       := /bin/bash
VERSION     := $(shell git describe --tags --dirty 2>/dev/null || echo 0.1.0-dev+$$(git describe --always --dirty 2>/dev/null || echo unknown))
LDFLAGS     := -s -w -X main.version=$(VERSION)
LINT        := .cache/bin/golangci-lint
LINT_MODULE := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0

.PHONY: help build test race demo servers lint bench torture fuzz clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: ## one static binary: bin/pgkeep
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/pgkeep ./cmd/pgkeep

servers: ## PostgreSQL 13 to 18 under .cache/postgres, for tests and the demo
	state/postgres/pgtest/install.sh
	state/repository/store/storetest/servers/install.sh versitygw fake-gcs-server azurite sshd

test: servers ## every test, against real PostgreSQL 13 to 18
	go vet ./...
	go test -timeout 90m ./...

race: servers ## the concurrent packages under the race detector (needs a C compiler)
	go test -race -timeout 30m -short ./plan/... ./hclspec/... ./state/spool/ ./state/repository/... ./steps/...

demo: build ## protect a real server, lose a table, get it back (PGVERSION=17 for another version)
	servers=$$(state/postgres/pgtest/install.sh $(or $(PGVERSION),15)) && bin/pgkeep demo --bindir "$${servers#* }"

lint: ## golangci-lint with the settings and reasons of .ci/golangci.yml
	@test -x $(LINT) || GOBIN=$(CURDIR)/.cache/bin go install $(LINT_MODULE)
	$(LINT) run --config .ci/golangci.yml ./...

bench: build ## against pg_basebackup, pg_receivewal, pgBackRest and Barman on this machine; prints ratios
	bench/run.sh

torture: servers ## the long rounds: kills, torn files, full disks, retention histories
	PGKEEP_PG=all PGKEEP_ROUNDS=60 PGKEEP_MEMORY=full PGKEEP_HISTORIES=100000 go test -timeout 60m -v ./steps/torture/ ./plan/

fuzz: ## every fuzz target for a minute each
	.ci/fuzz 60s

clean: ## what was built, not what was downloaded
	rm -rf bin dist
