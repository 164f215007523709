#!/bin/sh
# All that is measured, in short runs: `make bench`. What comes out stands in
# target/bench; the table of instructions is written into docs/performance.md.
#
#   ROOMS=1000 SECONDS_EACH=20 PEERS=200 scripts/bench.sh
#
# Times are those of this machine in this hour: compare within one run.
set -eu

cd "$(dirname "$0")/.."
rooms=${ROOMS:-500}
seconds=${SECONDS_EACH:-20}
peers=${PEERS:-200}
profile=${PROFILE:-release}
bin=${CARGO_TARGET_DIR:-target}/$profile
out=${CARGO_TARGET_DIR:-target}/bench

say() { printf '\n== %s\n' "$*"; }
has() { command -v "$1" >/dev/null 2>&1; }

NATS_SERVER=$(scripts/nats-server.sh)
export NATS_SERVER
mkdir -p "$out"
cargo build --locked --profile "$profile" --bins --features bench

say "micro benches: time and allocations a batch of ten frames"
cargo bench --locked --profile "$profile" --bench '*' >"$out/micro.txt"
cat "$out/micro.txt"

say "instructions a batch of ten frames"
if has valgrind; then
    "$bin/bench-counted" --write docs/performance.md
else
    echo "left out: there is no valgrind"
fi

# Runs a bench, keeps what it says, and goes on where it fails.
failed=
run() {
    name=$1
    shift
    "$@" >"$out/$name.txt" 2>"$out/$name.log" || failed="$failed $name"
    cat "$out/$name.txt"
}

calls=
has perf && calls=--calls
say "$rooms rooms, batches of 10 frames, beside the smallest relay"
# An option that may be missing.
# shellcheck disable=SC2086
run rooms "$bin/bench-rooms" --rooms "$rooms" --seconds "$seconds" --floor $calls
say "$((rooms / 4)) rooms, batches of 1 frame, beside the smallest relay"
# shellcheck disable=SC2086
run rooms-1 "$bin/bench-rooms" --rooms "$((rooms / 4))" --frames 1 --seconds "$seconds" \
    --floor $calls

say "the same job as people do it today"
others="python python-light python-raw"
has ffmpeg && others="$others ffmpeg"
has gst-launch-1.0 && others="$others gstreamer"
# shellcheck disable=SC2086
run peers "$bin/bench-peers" worker $others --rooms "$peers" --seconds "$seconds" \
    --python-path "$(scripts/python-env.sh)"

say "all of it is in $out; docs/performance.md says what it means"
[ -z "$failed" ] || { echo "failed:$failed; see the logs there"; exit 1; }
