#!/bin/bash
# The programs that the tests use beside Rust. Those that are missing are
# installed where that can be done; else it says which, and how to get them.
set -euo pipefail

# program=package
packages=()
for need in ffmpeg=ffmpeg flite=flite sox=sox python3=python3 pip3=python3-pip cc=gcc; do
    command -v "${need%%=*}" >/dev/null || packages+=("${need##*=}")
done
[ ${#packages[@]} -gt 0 ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "test-tools.sh: installing ${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
else
    echo "test-tools.sh: the tests need ${packages[*]}; on Debian: sudo apt-get install ${packages[*]}" >&2
    exit 1
fi
