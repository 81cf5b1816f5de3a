# Thin on purpose: what a line does stands in the tool it calls. All of it works in a clean clone.

CARGO_DENY_VERSION := 0.20.2
# Tools go beside the build's own output, so that nothing of the user's is touched and `cargo clean` removes them.
TOOLS := target/tools

.PHONY: run test e2e test-lnd test-clients test-api test-s3 check bench deps deps-test

run: deps
	cargo run --release --bin sluice -- up

# Unit tests, integration tests and the end-to-end tests in e2e/ (they are tests of the package `sluice`).
test: deps-test
	cargo test --workspace

# The end-to-end tests alone, without those that need real LND nodes.
e2e: deps-test
	cargo test --package sluice --test e2e

# The tests with real LND nodes, which Go builds first; left out where Go is missing.
test-lnd: deps
	e2e/lightning/run

# The real binary, driven by clients that others wrote (npm, PyPI, curl, Chromium), which it installs into target/clients.
test-clients: deps
	cargo build --package sluice --bin sluice --examples
	e2e/clients/run

# Schemathesis against the media server and its OpenAPI document: two minutes.
test-api: deps
	e2e/schemathesis/run

# The tests of the S3 store with a real Garage, which cargo installs first (a quarter of an hour). The others use an S3
# server in their own process.
test-s3: deps
	e2e/s3/run

check: deps $(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace
	$(TOOLS)/bin/cargo-deny --log-level error check --hide-inclusion-graph bans licenses sources

# With real LND where there is Go.
bench: deps
	bench/media
	cargo bench --package sluice-common --bench tokens
	e2e/lightning/build || [ $$? -eq 3 ]
	bench/aperture/build || [ $$? -eq 3 ]
	[ -e target/lightning/bin/aperture ] || bench/gateway
	cargo bench --package sluice --bench challenges

deps:
	@.ci/install-debian-packages cmake protobuf-compiler

deps-test:
	@.ci/install-debian-packages cmake protobuf-compiler postgresql

# Unoptimised: it builds in a minute and a half and runs in two seconds.
$(TOOLS)/cargo-deny-$(CARGO_DENY_VERSION):
	@echo "installing cargo-deny $(CARGO_DENY_VERSION) into $(TOOLS)"
	cargo install --locked --debug --no-default-features --root $(TOOLS) cargo-deny@$(CARGO_DENY_VERSION)
	@touch $@
