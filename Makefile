# Everything a newcomer or CI needs. `make` lists the targets.
# ARGS reaches the command behind a target: make demo ARGS=--http-port=9090

CARGO ?= cargo
ARGS ?=
# What the tests with an API server build once; outside the checkout, so that a new clone finds it.
CLUSTER_CACHE = $${NARTHEX_CLUSTER_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/narthex-cluster}

# Builds what is shipped, and says where it lies.
SHIPPED = $(CARGO) build --locked --release --bin narthex && binary=$$(.ci/binary release)

.DEFAULT_GOAL := help
.PHONY: routes rendered attacks grpc tls-scan signin logs metrics differential cluster-test deploy-test ingress-conformance help setup demo test ci fmt lint bench conformance routing malformed annotations snippets fuzz-smoke h2spec php soak sbom build bench-compare bench-pair clean fuzz-proxy promises bench-scale bench-guard bench-profile pgo cluster-bench gateway-conformance

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## Look for what a build needs and get it where that is possible
	@.ci/setup

demo: setup ## Serve a built-in example on loopback and say how to try it
	$(CARGO) run --locked --quiet --bin narthex -- demo $(ARGS)

test: setup ## Run every test
	$(CARGO) test --locked $(ARGS)

ci: setup ## Run what CI runs
	.ci/run

fmt: ## Format the code
	$(CARGO) fmt --all

lint: setup ## Check format and lints as CI does
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: setup ## Run the benches (benches/README.md)
	$(CARGO) bench --locked $(ARGS)

bench-compare: setup ## Measure nginx, ingress-nginx with its own Lua, an emulation of it, haproxy, Envoy, a naive proxy and Narthex side by side; SHORT=1: minutes less (docs/performance.md)
	$(SHIPPED) && CARGO="$(CARGO)" CARGO_TARGET_DIR="$$(dirname "$$(dirname "$$binary")")" benches/compare/prepare && \
	python3 benches/compare/compare.py --bin "$$binary" $(if $(SHORT),--short) $(ARGS)

bench-pair: setup ## Compare proxies, or binaries, at once on one processor: ratios that repeat within 2 %; ARGS='--only S3 nginx haproxy narthex old=/path/to/narthex' (docs/performance.md)
	$(SHIPPED) && python3 benches/compare/pair.py --bin "$$binary" $(if $(SHORT),--short) $(ARGS)

bench-scale: setup ## Hosts by the thousand, changes and compiling under load, tail, overload; SHORT=1: smaller, ARGS='--only tail': one part (docs/performance.md)
	$(SHIPPED) && python3 benches/compare/scale.py --bin "$$binary" $(if $(SHORT),--short) $(ARGS)

bench-profile: setup ## Where the time of a request, a change and a scrape goes, by perf (or callgrind); ARGS='--only S2': one goal (docs/performance.md)
	$(SHIPPED) && python3 benches/compare/profile_of.py --bin "$$binary" $(ARGS)

pgo: setup ## Make that profile anew, half an hour (docs/performance.md)
	CARGO="$(CARGO)" benches/compare/pgo

bench-guard: setup ## Fail when a small request costs clearly more instructions or system calls than stored (valgrind, strace, nginx)
	binary=$$(.ci/binary plain/release) && \
	RUSTC_WRAPPER= $(CARGO) build --locked --release --bin narthex --target-dir "$${binary%/release/narthex}" && \
	python3 benches/compare/guard.py --bin "$$binary" $(ARGS)

conformance: routing malformed annotations ## Judge the built binary from outside, by clients in another language

routes: build ## Compare routing with a real nginx's over Ingresses that chance made (nginx needed; ARGS='--seed N --hosts N')
	python3 conformance/nginx/routes.py --bin "$$(.ci/binary)" $(ARGS)

rendered: build ## Compare with the nginx.conf that ingress-nginx renders, and its Lua, over Ingresses that chance made (Go, nginx; ARGS='--seed N --hosts N')
	python3 conformance/nginx/rendered.py --bin "$$(.ci/binary)" --build $(ARGS)

differential: build ## Compare answers with those of a real nginx (nginx needed)
	python3 conformance/nginx/differential.py --bin "$$(.ci/binary)" $(ARGS)

cluster-test: build ## Try the controller against a real API server (first run builds it: minutes, Go and root needed)
	conformance/cluster/run "$$(.ci/binary)" "$(CLUSTER_CACHE)" $(ARGS)

ingress-conformance: build ## Run the official ingress-controller-conformance suite (ARGS='[CHECKOUT] [kubernetes|nginx]'; Go and root needed)
	conformance/ingress "$$(.ci/binary)" "$(CLUSTER_CACHE)" $(ARGS)

gateway-conformance: build ## Run the official Gateway API conformance suite (ARGS='[TEST]...'; Go and root needed)
	conformance/gateway "$$(.ci/binary)" "$(CLUSTER_CACHE)" $(ARGS)

cluster-bench: ## Measure how fast changes of a real API server are in effect (docs/performance.md; Go and root needed)
	$(CARGO) build --locked --release --bin narthex
	conformance/cluster/bench "$$(.ci/binary release)" "$(CLUSTER_CACHE)" $(ARGS)

deploy-test: build ## Judge the chart: real Helm, a real API server, the rights one by one (Go and root needed)
	conformance/deploy "$$(.ci/binary)" "$(CLUSTER_CACHE)" $(ARGS)

routing: build
	.ci/python conformance/routing_blackbox.py --bin "$$(.ci/binary)" $(ARGS)

php: build ## Ask a real PHP application over FastCGI (php-fpm; said loudly where there is none)
	conformance/php "$$(.ci/binary)" $(ARGS)

malformed: build
	conformance/malformed "$$(.ci/binary)" $(ARGS)

annotations: build
	.ci/python conformance/annotations_blackbox.py --bin "$$(.ci/binary)" $(ARGS)
	$(if $(ARGS),,.ci/python conformance/annotations_blackbox.py --bin "$$(.ci/binary)" --vectors tests/data/annotation-further.yaml --pinned /dev/null)

metrics: build ## Ask a real Prometheus what people ask of the metrics (ARGS='--dashboards DIR')
	python3 conformance/metrics.py --bin "$$(.ci/binary)" $(ARGS)

logs: build ## Compare lines of the access log with those of a real nginx
	python3 conformance/nginx/logs.py --bin "$$(.ci/binary)" $(ARGS)

signin: build ## Sign in, share resources and keep cookies as a browser does (Chromium; Authlib from PyPI)
	conformance/signin "$$(.ci/binary)" $(ARGS)

grpc: build ## Make calls with the gRPC library of Google (grpcio from PyPI)
	conformance/grpc "$$(.ci/binary)" $(ARGS)

snippets: build ## Compare snippets with a real nginx (needs nginx and its headers-more module)
	python3 conformance/nginx/snippets.py --bin "$$(.ci/binary)" $(ARGS)

fuzz-smoke: ## Run every fuzz target for a moment (ARGS='SECONDS [TARGET]...')
	$(CARGO) run --locked --quiet --manifest-path fuzz/Cargo.toml --bin smoke -- $(or $(ARGS),2)

fuzz-proxy: setup ## Bytes by chance through the running proxy, a strict peer behind it (ARGS='SECONDS [TEST]...')
	NARTHEX_FUZZ_SECONDS=$(or $(firstword $(ARGS)),60) $(CARGO) test --locked --test proxy_fuzz -- --nocapture $(wordlist 2,9,$(ARGS))

promises: setup ## Run the proofs of docs/security.md and write what they measured into its table (ARGS='[--long] [P1]...')
	python3 conformance/promises.py $(ARGS)

h2spec: build ## Judge HTTP/2 by h2spec, built from source; clear and TLS
	conformance/h2spec "$$(.ci/binary)" $(ARGS)

soak: build ## Mixed load, swaps and churn for ten minutes; prints the slope of the memory (ARGS='--seconds N')
	python3 conformance/soak.py --bin "$$(.ci/binary)" $(ARGS)

attacks: $(if $(BIN),,build) ## Attack the built binary at the numbers of docs/security.md, BIN=... another one (ARGS='[--short] [NAME]...')
	python3 conformance/attacks.py --bin "$(or $(BIN),$$(.ci/binary))" $(ARGS)

tls-scan: $(if $(BIN),,build) ## Scan the TLS port with testssl.sh and sslyze; every remark is one that is explained (BIN=... another binary)
	python3 conformance/scanners.py --bin "$(or $(BIN),$$(.ci/binary))"

sbom: ## Write the bill of materials, CycloneDX, to target/narthex.cdx.json
	mkdir -p target && .ci/sbom >target/narthex.cdx.json

build: setup
	$(CARGO) build --locked --bin narthex

clean: ## Remove what was built
	$(CARGO) clean
