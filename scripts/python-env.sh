#!/bin/sh
# Installs what the Python tests and examples need into the target folder and
# prints where: the value of PYTHONPATH. Prints nothing where Python has it all.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
needs=$root/tests/requirements.txt
to=${CARGO_TARGET_DIR:-$root/target}/python

die() { printf 'python-env.sh: %s\n' "$*" >&2; exit 1; }

command -v python3 >/dev/null 2>&1 || die "python3 is not installed: apt-get install python3 python3-pip"
python3 -c 'import msgpack, nats, crc32c' 2>/dev/null && exit 0
# One folder a version of Python: compiled packages fit no other.
to=$to-$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')

if ! cmp -s "$needs" "$to/installed.txt"; then
    python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip: apt-get install python3-pip"
    printf 'python-env.sh: installing nats-py, msgpack and crc32c into %s\n' "$to" >&2
    rm -rf "$to"
    python3 -m pip install --quiet --disable-pip-version-check --no-input \
        --target "$to" --requirement "$needs" >&2 ||
        die "pip cannot install what $needs names: is PyPI reachable?"
    cp "$needs" "$to/installed.txt"
fi
echo "$to"
