#!/bin/sh
# Builds and plays the demo. FILE names a recording to play; what is given as
# arguments goes to gateway-demo, whose --help says what there is.
set -eu

[ -z "${FILE:-}" ] || FILE=$(realpath "$FILE")
cd "$(dirname "$0")/.."
die() { printf 'demo.sh: %s\n' "$*" >&2; exit 1; }

command -v cargo >/dev/null 2>&1 || die "cargo is not installed: see https://rustup.rs"
command -v cc >/dev/null 2>&1 || die "a C linker is missing: apt-get install gcc libc6-dev"
server=$(scripts/nats-server.sh)
echo "demo.sh: building; the first time takes some minutes" >&2
cargo build --profile demo --bin dispatcher --bin worker --bin sdk-launch --bin sdk-sim --bin gateway-demo
exec "${CARGO_TARGET_DIR:-target}/demo/gateway-demo" --nats-server "$server" ${FILE:+"$FILE"} "$@"
