# Every target does its own set-up. `make help` lists them.

GO        ?= go
BIN       := bin
COMMANDS  := bombyx bombyx-host bombyx-enclave bombyx-demo
STATIC    := CGO_ENABLED=0
FLAGS     := -trimpath -ldflags=-s
# go-nvml binds functions that NVIDIA has since deprecated.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME  ?= 10s
BENCHTIME ?= 1s
KILLS     ?= 1000
SOAK      ?= 10m

# The measured guest image: what goes into it decides its measurement, so all of it is pinned.
IMAGE_GO     := go1.26.8
KERNEL_DEB   ?= $(BIN)/image/kernel.deb
KERNEL_URL   := https://deb.debian.org/debian/pool/main/l/linux-signed-amd64/linux-image-6.12.107+deb13-cloud-amd64_6.12.107-1_amd64.deb
KERNEL_SHA256 := 04434ff520f860423eafe4203d986a35682ce73c2f71baa39e988ca0da93ac91
IMAGE_BUILD  := env -u GOFLAGS -u GOEXPERIMENT -u GOFIPS140 GOOS=linux GOARCH=amd64 GOAMD64=v1 CGO_ENABLED=0 GOTOOLCHAIN=$(IMAGE_GO) $(GO) build -trimpath -buildvcs=false -ldflags='-s -buildid='

.PHONY: help build enclave-gpu image image-test cross demo test race kills soak lint bench memory fuzz fees contracts tongo sandbox interop web clean

help: ## list the targets
	@awk -F': .*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the four programs, static, into bin/
	$(STATIC) $(GO) build $(FLAGS) -o $(BIN)/ $(addprefix ./cmd/,$(COMMANDS))

enclave-gpu: ## build bin/bombyx-enclave for GPU nodes: dynamic, it loads NVIDIA's libraries (needs gcc)
	CGO_ENABLED=1 $(GO) build $(FLAGS) -o $(BIN)/ ./cmd/bombyx-enclave

image: ## build the measured guest image into bin/image: CONFIG=enclave.json, MODEL=its engine.file (needs curl, dpkg-deb)
	@test -n "$(CONFIG)" || { echo "make image: name the enclave's configuration: make image CONFIG=enclave.json" >&2; exit 2; }
	mkdir -p $(BIN)/image
	test -f $(KERNEL_DEB) || { curl -fsSL -o $(KERNEL_DEB).part $(KERNEL_URL) && mv $(KERNEL_DEB).part $(KERNEL_DEB); }
	echo "$(KERNEL_SHA256)  $(KERNEL_DEB)" | sha256sum --check --quiet
	$(IMAGE_BUILD) -o $(BIN)/image/ ./cmd/bombyx-enclave ./enclave/image/init
	$(GO) run ./enclave/image/build --kernel $(KERNEL_DEB) --init $(BIN)/image/init --enclave $(BIN)/image/bombyx-enclave --config $(CONFIG) $(if $(MODEL),--model $(MODEL)) --out $(BIN)/image

image-test: ## build an image twice, boot it without confidential hardware, and compare a measured boot (needs qemu-system-x86; swtpm, ovmf)
	$(MAKE) image CONFIG=enclave/image/testdata/enclave.json
	BOMBYX_IMAGE=$(CURDIR)/$(BIN)/image $(GO) test -count=1 -v -run TestImage ./enclave/image

cross: ## check that the client builds for the other platforms
	$(STATIC) GOOS=darwin GOARCH=arm64 $(GO) build -o /dev/null ./cmd/bombyx
	$(STATIC) GOOS=windows GOARCH=amd64 $(GO) build -o /dev/null ./cmd/bombyx
	$(STATIC) GOOS=linux GOARCH=arm64 $(GO) build -o /dev/null ./cmd/bombyx
	$(STATIC) GOOS=js GOARCH=wasm $(GO) build ./attestation/...

demo: build ## one private, attested, paid answer, end to end, and the attacks
	./$(BIN)/bombyx-demo $(DEMO)

test: ## run every test
	$(GO) test ./...
	$(STATIC) $(GO) test ./enclave/tee

race: ## run the tests of everything concurrent under the race detector
	$(GO) test -race $(RACE)

RACE := ./attestation/... ./client/... ./cmd/... ./enclave/... ./host/... ./internal/...

kills: ## kill hosts, clients and PostgreSQL KILLS times under load (default 1000 for each database, and for a fleet)
	KILLS=$(KILLS) $(GO) test -count=1 -timeout 3h -v -run TestKills ./cmd/bombyx-host

soak: ## use proxy, host and enclave for SOAK (default 10m) in every way a program may: no leak, and the books agree
	SOAK=$(SOAK) $(GO) test -count=1 -timeout 3h -v -run TestSoak ./internal/e2e

lint: ## gofmt, vet and staticcheck
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt: $$out" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	cd internal/ton/tongo && $(GO) vet ./... && $(GO) run $(STATICCHECK) ./...

bench: ## run the benchmarks; ratios are to a peer or to the primitive's floor in the same run
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./...

memory: ## put 100,000 evidences through one verifier; prints its heap after a tenth, half and all of them
	$(GO) test -run '^$$' -bench Many -benchtime 100000x -timeout 2h ./attestation ./attestation/dcap ./attestation/nvidia

fuzz: ## run every fuzz target for FUZZTIME each (default 10s)
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$p || exit 1; \
	  done; done

fees: ## print what each operation of the payment channel costs
	$(GO) run ./internal/ton/channel/fees

contracts: ## rebuild the contracts from source and compare with what is committed (needs node)
	cd internal/ton/channel/contract && npm ci --silent --ignore-scripts && node build.mjs

tongo: ## have another client and the C++ TVM check the local network (needs gcc)
	cd internal/ton/tongo && $(GO) vet . && $(GO) test -count=1 -v .

sandbox: ## run the contract suites again in @ton/sandbox: same exit codes, gas and fees (needs node)
	@cd internal/ton/channel/contract && npm ci --silent --ignore-scripts && d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && \
	for p in channel registry; do \
	  BOMBYX_CONTRACT_RECORD=$$d/$$p BOMBYX_CHANNEL_SEQUENCES=30 $(GO) test -count=1 ../../$$p || exit 1; \
	  BOMBYX_CONTRACT_RECORD=$$d/$$p npm test --silent || exit 1; \
	done

interop: build ## drive the programs with a second client, written in JavaScript from docs/protocol.md alone, and with OpenAI SDKs (needs node)
	cd internal/e2e/second && npm ci --silent --ignore-scripts && npm test --silent
	cd internal/e2e/sdks && npm ci --silent --ignore-scripts
	BOMBYX_SDKS=$(CURDIR)/internal/e2e/sdks $(GO) test -count=1 -v -run TestSessions/sdks ./cmd/bombyx

web: ## assemble the verifier's page into bin/web: static files, nothing to run
	$(GO) run ./cmd/bombyx-web $(BIN)/web

clean: ## remove what was built
	rm -rf $(BIN)
