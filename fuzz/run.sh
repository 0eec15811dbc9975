#!/usr/bin/env bash
# Looks for bytes that break a claim of fuzz/oracles.rs: so many seconds for each target, two targets at a time.
#   fuzz/run.sh SECONDS CARGO_FUZZ
# What is found stands in fuzz/artifacts; it belongs into tests/regress/TARGET, where every later test plays it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
cargo_fuzz=${2:-cargo-fuzz}
mapfile -t targets < <(sed -n 's/^name = "\(.*_.*\|journal\|worlds\)"$/\1/p' fuzz/Cargo.toml)

# Without a sanitizer the stable toolchain will do: the code has no unsafe block.
"$cargo_fuzz" fuzz build -s none
folder=fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release

hunt() {
  local target=$1
  mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target" "tests/regress/$target"
  if "$folder/$target" -max_total_time="$seconds" -timeout=20 -artifact_prefix="fuzz/artifacts/$target/" \
    "fuzz/corpus/$target" "tests/regress/$target" >"fuzz/artifacts/$target.log" 2>&1; then
    echo "$target: nothing found in $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "fuzz/artifacts/$target.log") runs"
  else
    tail -n 30 "fuzz/artifacts/$target.log"
    echo "$target: FOUND something; the bytes are in fuzz/artifacts/$target"
    return 1
  fi
}
export -f hunt
export folder seconds
printf '%s\n' "${targets[@]}" | xargs -P 2 -I{} bash -euo pipefail -c 'hunt {}'
