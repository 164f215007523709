# The gateway's programs in one image; the command says which one runs.
#
#   docker build -t audio-gateway .
#   docker run --rm --network host audio-gateway dispatcher

FROM rust:1.95-bookworm AS build
WORKDIR /src
# The dependencies first, in a layer of their own: they change rarely.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src/bin benches \
 && echo '//! Stands in until the sources come.' > src/lib.rs \
 && echo 'fn main() {}' > src/bin/gateway.rs \
 && for path in $(sed -n 's/^path = "\(bench.*\)"/\1/p' Cargo.toml); do \
        mkdir -p "$(dirname "$path")" && cp src/bin/gateway.rs "$path"; done \
 && for name in $(sed -n '/^\[\[bench\]\]/{n;s/.*"\(.*\)"/\1/p}' Cargo.toml); do \
        cp src/bin/gateway.rs "benches/$name.rs"; done \
 && cargo build --release --locked \
 && rm -r src
# `bench/` and `benches/` are named in the manifest and not built: their stand-ins stay.
COPY src src
# Cargo goes by the time of a file, and these are older than the stand-ins.
RUN find src -name '*.rs' -exec touch {} + \
 && programs="dispatcher worker gateway sdk-sim sdk-launch" \
 && cargo build --release --locked $(printf ' --bin %s' $programs) \
 && mkdir /out \
 && for name in $programs; do install -m 755 "target/release/$name" /out/; done

FROM debian:bookworm-slim
# ffmpeg is the adapter for files and streams.
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates ffmpeg \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --home-dir / --shell /usr/sbin/nologin gateway
# The adapters and their launcher are looked for beside the worker.
COPY --from=build /out/ /usr/local/bin/
COPY config /etc/audio-gateway
USER gateway
# SIGTERM is lame duck: what runs is handed over first.
STOPSIGNAL SIGTERM
CMD ["gateway", "--help"]
