# syntax=docker/dockerfile:1
# One image for all parts: `sluice up`, `sluice gateway`, `sluice backend`.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake protobuf-compiler \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The image has the toolchain; rust-toolchain.toml would fetch "stable" beside it.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin sluice \
    && cp target/release/sluice /usr/local/bin/sluice

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home --home-dir /var/lib/sluice sluice \
    && install -d -o sluice -g sluice -m 700 /var/lib/sluice/data
COPY --from=build /usr/local/bin/sluice /usr/local/bin/sluice
COPY config /etc/sluice
USER sluice
WORKDIR /var/lib/sluice
VOLUME /var/lib/sluice/data
EXPOSE 8081 8083
# The admin address of `up` and `gateway`; who runs the backend alone asks it for /ping.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8082/healthz"]
# `up` listens on loopback, so in a container it is of use with `--network host` only; docker-compose.yml runs the parts
# one by one. After SIGTERM a part takes up to 40 s to end what is under way, `up` up to 75 s: give it those
# (`docker stop --time 80`).
ENTRYPOINT ["sluice"]
CMD ["up", "--data", "/var/lib/sluice/data"]
