#!/bin/sh
# Prints the path of a cargo-deny, built once where none is installed. It is
# kept outside the target directory, so that `cargo clean` does not cost it.
set -eu

version=0.20.2
root="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/audio-gateway/cargo-deny-$version"

if command -v cargo-deny >/dev/null 2>&1; then
    command -v cargo-deny
    exit 0
fi
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "cargo-deny.sh: building cargo-deny $version, once" >&2
    # Unoptimised: it is built in a third of the time, and runs for two seconds.
    target=$(mktemp -d)
    trap 'rm -rf "$target"' EXIT
    CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 \
        cargo install --quiet --locked --debug --root "$root" "cargo-deny@$version" >&2
fi
echo "$root/bin/cargo-deny"
