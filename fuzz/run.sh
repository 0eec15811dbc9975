#!/usr/bin/env bash
# Looks for bytes that break a claim of fuzz/oracles.rs: so many seconds for each target, three targets at a time.
#   fuzz/run.sh SECONDS
# What is found stands in fuzz/artifacts; it belongs into tests/regress/TARGET, where every later test plays it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
mapfile -t targets < <(sed -n 's/^name = "\(.*_.*\|journal\|worlds\)"$/\1/p' fuzz/Cargo.toml)

# What libFuzzer wants to know of the code it runs: which edges are taken, and what is compared with what. The stable compiler
# can tell it without a sanitizer, and the code has no unsafe block that would need one. (`cargo fuzz run -s none TARGET`
# compiles each crate in one piece besides: that takes longer, and its code may then try more in a second.)
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="${RUSTFLAGS:-} --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
${CARGO:-cargo} build --manifest-path fuzz/Cargo.toml --release --locked --target "$host" --quiet
folder=fuzz/target/$host/release

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
printf '%s\n' "${targets[@]}" | xargs -P 3 -I{} bash -euo pipefail -c 'hunt {}'
