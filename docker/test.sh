#!/usr/bin/env bash
# Plays the compose file as a user runs it: up, HELLO from outside, clients, scale up, kill, pause and cut off one, scale down,
# all started again with other addresses; and nodes with doors on the host. `make test-docker`.
#
# Installs and starts a docker engine where that is possible (root, Debian's packages), and makes the base images where
# none can be pulled. Where there is no engine and none can be had, it says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

project=keyval-test
port=${KEYVAL_PORT:-6234}
compose_file=docker/docker-compose.yml
started_engine=

say() { printf '%6ds  %s\n' "$SECONDS" "$*"; }
skip() { echo "test-docker: skipped: $*"; exit 0; }

engine() {
    docker info >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] || skip "no docker engine runs, and only root could start one"
    if ! command -v dockerd >/dev/null || ! command -v docker-compose >/dev/null || ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || skip "no docker engine, and no apt-get to install one"
        say "installing a docker engine"
        { apt-get update -qq && apt-get install -y -qq docker.io docker-compose debootstrap; } >/dev/null 2>&1 ||
            skip "no docker engine, and Debian's packages cannot be had"
    fi
    say "starting a docker engine"
    state=$(mktemp -d)
    setsid dockerd --data-root "$state/data" --exec-root "$state/exec" --pidfile "$state/pid" >"$state/log" 2>&1 &
    started_engine=$state
    for _ in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -5 "$state/log" >&2
    skip "a docker engine could not be started here"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p "$project" -f "$compose_file" "$@"
    else
        docker-compose -p "$project" -f "$compose_file" "$@"
    fi
}

finish() {
    code=$?
    [ -z "${writer:-}" ] || kill "$writer" 2>/dev/null || true
    if [ $code != 0 ] && docker info >/dev/null 2>&1; then
        echo "--- the last words of the nodes" >&2
        compose logs --tail 15 2>&1 | tail -60 >&2 || true
    fi
    compose down -v --remove-orphans >/dev/null 2>&1 || true
    if [ -n "$started_engine" ] && [ -f "$started_engine/pid" ]; then
        pid=$(cat "$started_engine/pid")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 40); do kill -0 "$pid" 2>/dev/null || break; sleep 0.25; done
        rm -rf "$started_engine" 2>/dev/null || true
    fi
    exit $code
}

# until SECONDS COMMAND...: looks again and again until the command succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    while ! "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $deadline ]; then
            echo "FAILED: not true in time: $*" >&2
            "$@" >&2 || true
            return 1
        fi
        sleep 0.2
    done
}

ctl() { compose exec -T founder keyval ctl "$@"; }

# One inline command to the published plain door, from outside the containers; prints the reply's lines.
ask() {
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf '%s\r\nQUIT\r\n' "$*" >&3
    timeout 5 cat <&3 | tr -d '\r'
    exec 3>&-
}

all_well() { ctl status; }
outside_nodes() {
    compose exec -T node-1 keyval ctl --json nodes | python3 -c 'import json,sys; sys.exit(len(json.load(sys.stdin)["nodes"]) != '"$1"')' &&
        compose exec -T node-1 keyval ctl status
}
nodes_are() { [ "$(ctl --json nodes | python3 -c 'import json,sys; print(len(json.load(sys.stdin)["nodes"]))')" = "$1" ]; }
# The commander's address comes after the field's name and its own length.
names_commander() { ask HELLO | grep -A2 -x commander | grep -qE ':6234$'; }
# Each of N nodes heads its share of the 1,024 ranges, within 5 % or one range.
spread() {
    ctl --json nodes | python3 -c '
import json, sys
nodes = json.load(sys.stdin)["nodes"]
share = 1024 / len(nodes)
off = [(n["name"], n["heads"]) for n in nodes if abs(n["heads"] - share) > max(1.0, 0.05 * share)]
print(sorted((n["name"], n["heads"]) for n in nodes))
sys.exit(1 if off else 0)'
}
keys_answer() {
    for key in $(seq 1 60); do
        ask GET "key:$key" | head -1 | grep -qE '^\$' || return 1
    done
}
keys_are_there() {
    for key in $(seq 1 60); do
        local said
        said=$(ask GET "key:$key" | paste -sd" ")
        [[ "$said" == *" value-$key +OK" ]] || { echo "key:$key is answered by: $said" >&2; return 1; }
    done
}

command -v python3 >/dev/null || skip "python3 reads the replies, and is not here"
engine
trap finish EXIT
if ! docker image inspect debian:bookworm-slim rust:1.95-bookworm >/dev/null 2>&1; then
    { timeout 120 docker pull -q debian:bookworm-slim && { [ -n "${KEYVAL_BUILT:-}" ] || timeout 300 docker pull -q rust:1.95-bookworm; }; } >/dev/null 2>&1 ||
        say "no image can be pulled here: making base images of the same names"
fi
docker/base-images.sh ${KEYVAL_BUILT:+slim} # does nothing for what is there

# What was built here a moment ago need not be built again.
say "building the image"
if [ -n "${KEYVAL_BUILT:-}" ]; then
    docker build -q --target bare -t keyval-bare -f docker/Dockerfile . >/dev/null
    docker build -q -t keyval -f docker/built.Dockerfile . >/dev/null
else
    docker build -q -t keyval -f docker/Dockerfile . >/dev/null
fi
say "up: a founder and two drones"
KEYVAL_PORT=$port compose up -d --no-build
until_true 60 nodes_are 3
until_true 60 all_well
until_true 10 names_commander
say "three nodes on the roster, every range served; HELLO from outside names the commander"

for key in $(seq 1 60); do ask SET "key:$key" "value-$key" | grep -q '+OK'; done
until_true 5 keys_are_there
say "60 keys written and read through the published port"

clients=$(mktemp)
docker/clients.py "127.0.0.1:$port" >"$clients" &
writer=$!

scale() { compose up -d --no-build --no-recreate --scale "drone=$1"; }
scale 5
until_true 60 nodes_are 6
until_true 120 spread
until_true 30 all_well
say "scaled to five drones under load: six nodes, ranges spread: $(spread)"

victim=$(compose ps -q drone | head -1)
docker kill "$victim" >/dev/null
killed=$SECONDS
until_true 20 keys_are_there
say "one drone killed: every key answers as before after at most $((SECONDS - killed)) s"
scale 5
until_true 60 all_well
until_true 60 nodes_are 6
say "it is started again: all is well"

paused=$(compose ps -q drone | sed -n 2p)
docker pause "$paused" >/dev/null
until_true 20 keys_are_there
docker unpause "$paused" >/dev/null
until_true 60 all_well
say "one drone paused and resumed: every key answers, all is well"

cut=$(compose ps -q drone | sed -n 3p)
network=$(docker inspect -f '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}' "$cut")
docker network disconnect "$network" "$cut"
until_true 20 keys_are_there
docker network connect --alias drone "$network" "$cut"
until_true 60 all_well
until_true 60 nodes_are 6
say "one drone cut off and connected again: every key answers, all is well"

scale 2
until_true 60 nodes_are 3
until_true 60 all_well
keys_are_there
say "scaled down to two drones: three nodes on the roster; every key is still there"

kill -TERM $writer
if ! wait $writer; then
    cat "$clients" >&2
    echo "FAILED: an acknowledged write was lost" >&2
    exit 1
fi
say "clients that wrote all the while: nothing acknowledged is lost: $(cut -c1-200 "$clients")"

# Others take the addresses that the containers had.
all=$(compose ps -q)
docker kill $all >/dev/null
taken=$(for _ in $all; do docker run -d --rm --network "$network" --entrypoint sleep keyval 600; done)
docker start $all >/dev/null
until_true 60 nodes_are 3
until_true 60 all_well
ask SET again yes | grep -q '+OK'
docker kill $taken >/dev/null
say "all killed, and started again with other addresses: the mesh is well, and takes writes"

compose down -v --remove-orphans >/dev/null 2>&1
compose_file=docker/outside.yml
compose up -d --no-build
until_true 60 outside_nodes 3
docker/clients.py 127.0.0.1:6235 --cluster >"$clients" &
writer=$!
sleep 3 # so long they write
kill -TERM $writer
wait $writer || { cat "$clients" >&2; exit 1; }
grep -q '"doors": 3' "$clients"
say "nodes with doors on the host: a cluster-aware client outside reaches all three"
python3 -c 'import sys, yaml; kinds = [part["kind"] for part in yaml.safe_load_all(sys.stdin)]; assert "StatefulSet" in kinds, kinds' \
    <docker/kubernetes/statefulset.yaml
say "docker/kubernetes/statefulset.yaml can be read"

compose down -v --remove-orphans >/dev/null 2>&1
say "down"
echo "test-docker: passed"
