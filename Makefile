# The two commands that matter:
#   make demo    the main job, end to end, with real processes
#   make test    every test
# make help lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO       ?= go
BIN      := bin
TEE      ?=
FUZZTIME ?= 60s

# Without paths a package compiles to the same bytes for programs, checks and tests, and in every checkout: what
# one command compiled, the next need not.
export GOFLAGS := $(GOFLAGS) -trimpath

# Reproducible: no paths, no VCS stamp, no build id (two builds of one tree are the same bytes).
LDFLAGS  := -s -w -buildid=
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags='$(LDFLAGS)'
HELLO    := CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm $(GO) build -trimpath -buildvcs=false
PROGRAMS := teep teep-tam teep-broker teep-agent

.PHONY: help
help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: build
build: prerequisites ## the four programs and the example applications, into bin/
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ $(PROGRAMS:%=./cmd/%)
	$(HELLO) -ldflags='-s -w -buildid= -X main.version=1.0.0' -o $(BIN)/hello-1.wasm ./examples/hello
	$(HELLO) -ldflags='-s -w -buildid= -X main.version=2.0.0' -o $(BIN)/hello-2.wasm ./examples/hello
	$(HELLO) -ldflags='-s -w -buildid=' -o $(BIN)/interpreter.wasm ./examples/interpreter

.PHONY: demo
demo: build ## the main job: author, publish, attest, install, run, update, refuse, leave; TEE=vm in a virtual machine
	@if [ "$(TEE)" = vm ]; then package=$$(.ci/kernel-package .cache/kernel) || exit 1; fi; \
	  set -x; $(BIN)/teep demo $(if $(TEE),--tee $(TEE)) $${package:+--kernel-package "$$package"} $(ARGS)

VM         ?= $(BIN)/vm
VM_CONFIG  ?= examples/vm
VM_OWNER   ?= Example Devices
VM_EXPIRES ?= $(shell date -u -d '+1 year' +%F)

.PHONY: vm-image
vm-image: build ## the image of a virtual machine that is a TEE, with its reference values, into bin/vm
	@package=$$(.ci/kernel-package .cache/kernel) && $(BIN)/teep image build --kernel-package "$$package" \
	  --agent $(BIN)/teep-agent --config $(VM_CONFIG) --out $(VM) --owner "$(VM_OWNER)" --expires $(VM_EXPIRES) $(VM_ARGS)

# Tests wait for other processes more than they compute: half as many packages again as there are processors.
PACKAGES ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$((n + (n + 1) / 2)))

.PHONY: test
test: prerequisites-test ## every test, with the race detector, in random order
	$(GO) test -race -shuffle=on -p $(PACKAGES) -timeout 20m ./...
	CGO_ENABLED=1 $(GO) test -race -tags pkcs11 ./cose/pkcs11
	CGO_ENABLED=1 $(GO) test -race -tags pkcs11 -run PKCS11 ./cmd/teep-tam

.PHONY: test-pkcs11
test-pkcs11: prerequisites-test ## signing with keys in a token (cgo; skips without SoftHSM: apt-get install softhsm2)
	CGO_ENABLED=1 $(GO) test -race -tags pkcs11 ./cose/pkcs11
	CGO_ENABLED=1 $(GO) test -race -tags pkcs11 -run PKCS11 ./cmd/teep-tam

.PHONY: check
check: prerequisites ## what CI runs before the tests
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt -w these files:"; echo "$$out"; exit 1; fi
	CGO_ENABLED=0 $(GO) vet ./...
	CGO_ENABLED=0 $(GO) tool staticcheck ./...
	$(GO) mod tidy -diff
	CGO_ENABLED=0 $(GO) test -count=1 ./internal/archtest
	CGO_ENABLED=0 GOOS=linux GOARCH=arm64   $(GO) build -o /dev/null ./cmd/teep-agent
	CGO_ENABLED=0 GOOS=linux GOARCH=riscv64 $(GO) build -o /dev/null ./cmd/teep-agent

.PHONY: fuzz
fuzz: prerequisites-test ## each fuzz target for FUZZTIME (default 60s)
	@GO="$(GO)" FUZZTIME="$(FUZZTIME)" .ci/fuzz

.PHONY: bench
bench: prerequisites ## what it costs, each number beside its floor
	$(GO) test -run '^$$' -bench . -benchmem ./bench/...

.PHONY: prerequisites prerequisites-test
prerequisites:
	@GO="$(GO)" .ci/prerequisites build
prerequisites-test:
	@GO="$(GO)" .ci/prerequisites test

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
