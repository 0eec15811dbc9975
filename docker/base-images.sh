#!/usr/bin/env bash
# Makes the Dockerfile's two base images from Debian's packages and this machine's Rust toolchain, for machines that
# cannot pull images. Needs root, debootstrap and a docker engine; does nothing for an image that is there.
#   docker/base-images.sh [slim]   with `slim` the one of the two that nodes run on
set -euo pipefail
cd "$(dirname "$0")/.."

has() { docker image inspect "$1" >/dev/null 2>&1; }

# One made here holds the packages of one Cargo.lock; with another it is made anew. A pulled one has no such label.
lock=$(sha256sum Cargo.lock | cut -d' ' -f1)
is_stale() {
    local label
    label=$(docker image inspect -f '{{index .Config.Labels "keyval.lock"}}' "$1" 2>/dev/null) || return 1
    [ -n "$label" ] && [ "$label" != "$lock" ]
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! has debian:bookworm-slim; then
    echo "making debian:bookworm-slim from Debian's packages"
    debootstrap --variant=minbase bookworm "$work/slim" >"$work/slim.log" 2>&1 || { tail -5 "$work/slim.log" >&2; exit 1; }
    tar -C "$work/slim" --exclude=./var/cache/apt/archives/'*' --exclude=./var/lib/apt/lists/'*' -c . |
        docker import - debian:bookworm-slim >/dev/null
    rm -rf "$work/slim"
fi

if [ "${1:-}" != slim ] && { ! has rust:1.95-bookworm || is_stale rust:1.95-bookworm; }; then
    echo "making rust:1.95-bookworm from Debian's packages and this machine's toolchain"
    debootstrap --variant=minbase --include=gcc,libc6-dev,binutils,ca-certificates bookworm "$work/rust" >"$work/rust.log" 2>&1 ||
        { tail -5 "$work/rust.log" >&2; exit 1; }
    # The toolchain, and the packages that Cargo.lock names, so that the build needs no network.
    cargo fetch --locked --quiet
    toolchain=$(rustc --print sysroot)
    mkdir -p "$work/rust/usr/local/cargo"
    cp -a "$toolchain"/bin "$toolchain"/lib "$work/rust/usr/local/"
    cp -a "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/rust/usr/local/cargo/"
    tar -C "$work/rust" --exclude=./var/cache/apt/archives/'*' --exclude=./var/lib/apt/lists/'*' -c . |
        docker import --change "LABEL keyval.lock=$lock" --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin CARGO_HOME=/usr/local/cargo CARGO_NET_OFFLINE=true' \
            - rust:1.95-bookworm >/dev/null
fi
