#!/bin/bash
# Proves docker-compose.yml: builds the image, starts everything under a name
# of its own, waits until all of it is healthy, hears a room without a loss,
# kills the worker that serves it, hears it again, and takes everything away.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'compose-check: %s\n' "$*"; }
die() { say "$*"; exit 1; }

docker info >/dev/null 2>&1 || die "no Docker engine answers"
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
else
    compose=(docker-compose)
fi
# Beside a gateway that runs here already: another project, any free port.
export GATEWAY_PORT=0
# Two rooms fit a host that is busy building other things as well.
work=$(mktemp -d)
printf '[worker]\ncores = 64.0\n' >"$work/worker.toml"
cat >"$work/override.yml" <<EOF
services:
  worker-1: &busy
    volumes: ["$work/worker.toml:/etc/audio-gateway/worker.toml:ro"]
  worker-2: *busy
EOF
compose+=(--project-name "gateway-check-$$" --file docker-compose.yml --file "$work/override.yml")
leave() {
    code=$?
    [ $code = 0 ] || "${compose[@]}" logs --no-color --tail 50
    "${compose[@]}" down --volumes --timeout 5 >/dev/null 2>&1
    rm -rf "$work"
}
trap leave EXIT

container() { "${compose[@]}" ps -q "$1"; }

# The command line in a container, as the user $1 of nats/dev.env.
gateway() {
    local user=$1
    shift
    docker exec -e NATS_USER="$user" -e NATS_PASSWORD="dev-$user" \
        -e NATS_INBOX_PREFIX="_INBOX.$user" "$(container dispatcher-1)" gateway "$@"
}

# Waits until `$2…` succeeds, at most 60 s.
until_it() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || die "within 60 s: not $what"
        sleep 0.5
    done
    say "$what"
}

healthy() {
    [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]
}

# Hears room 42 for a while; fails where anything was lost.
hear() {
    local end
    end=$(gateway consumer-42 --json listen 42 --seconds 6 --drop 0.1 | tail -n 1)
    say "heard: $end"
    grep -q '"lost":0' <<<"$end" && grep -q '"gaps":0' <<<"$end" && ! grep -q '"frames":0,' <<<"$end"
}

say "building"
"${compose[@]}" build
"${compose[@]}" up --detach
for service in nats dispatcher-1 dispatcher-2 worker-1 worker-2; do
    until_it "$service is healthy" healthy "$service"
    id=$(container "$service")
    # The programs themselves, under Docker's init, as the kernel sees them.
    users=$(docker top "$id" -eo pid,uid | awk 'NR > 1 { print $2 }' | sort -u)
    ! grep -qx 0 <<<"$users" || die "$service runs as root"
    [ "$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}}' "$id")" = true ] ||
        die "$service can write to its own files"
done
say "none runs as root, none can write to its own files"

gateway service submit --room 42 --sdk sim --id check --param source=ramp --param participants=2 --wait
hear || die "the room was not heard whole"

worker=$(gateway service get check | grep -o 'worker-[12]' | head -n 1)
say "killing $worker"
# The process, not the container: Docker starts nothing again that it was told
# to kill. The shell that kills it ends with the container, and so in failure.
docker exec "$(container "$worker")" sh -c '
    for process in /proc/[0-9]*; do
        [ "$(cat "$process/comm")" != worker ] || kill -9 "${process#/proc/}"
    done' || true
moved() {
    local now
    now=$(gateway service get check)
    grep -q running <<<"$now" && ! grep -q "$worker" <<<"$now"
}
until_it "the room is with the other worker" moved
hear || die "the room was not heard whole from the other worker"
until_it "$worker was started again" healthy "$worker"
gateway service cancel check >/dev/null
say "passed"
