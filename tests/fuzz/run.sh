#!/usr/bin/env bash
# A sanitizer build of all that is compiled, and the fuzzer on it: run.sh PYTHON SECONDS [CASES]
# First as many random and malformed calls of each compiled module (coder_cases.py, kernel_cases.py,
# training_cases.py; 0 leaves them out). Then half of the seconds goes to reading, half to reading, building and
# calling. Linux on x86-64, with clang.
# What is found lies in build/fuzz; contents that reach new code join build/fuzz/corpus-*.
set -euo pipefail
seconds=$2 cases=${3:-1000000}
python="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")" # a virtual environment's link must stay one
here=$(cd "$(dirname "$0")/../.." && pwd)
out=$here/build/fuzz
cd "$here"

command -v clang > /dev/null || { echo "fuzz: clang is missing. Cure: apt install clang" >&2; exit 1; }
mkdir -p "$out"
[ -d "$out/site/atheris" ] || "$python" -m pip --disable-pip-version-check -q install --no-deps --target "$out/site" atheris==3.0.0

if [ "$cases" -gt 0 ]; then
  for harness in coder_cases kernel_cases training_cases; do "$python" -m "tests.fuzz.$harness" --cases "$cases"; done
fi

rm -rf "$out/src" && mkdir -p "$out/src"
cp -r src/laconic "$out/src/"
find "$out/src" -name '*.so' -delete
CC=clang LDSHARED="clang -shared" \
  CFLAGS="-fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -g -O1" \
  "$python" setup.py -q build_ext --force --build-lib "$out/src" --build-temp "$out/temp"

export PYTHONPATH=$out/src:$out/site:$here LACONIC_CACHE=$out/cache
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
for target in decode load; do
  corpus=$out/corpus-$target
  mkdir -p "$corpus"
  "$python" tests/fuzz/fuzz.py seeds "$corpus" 2> /dev/null
  quiet=0
  [ $target = load ] && quiet=3 # ONNX Runtime writes a line for each refusal; ours go to trace.txt
  echo "fuzz: $target for $((seconds / 2)) s, log in $out/$target.log"
  (cd "$out" && LD_PRELOAD=$out/site/asan_with_fuzzer.so "$python" "$here/tests/fuzz/fuzz.py" $target "$corpus" \
    "$here/tests/fuzz/corpus" -max_total_time=$((seconds / 2)) -artifact_prefix="$out/found-$target-" \
    -rss_limit_mb=4096 -timeout=900 -max_len=4096 -close_fd_mask=$quiet) > "$out/$target.log" 2>&1 ||
    { tail -n 30 "$out/$target.log" >&2; echo "fuzz: $target found something, see $out/found-$target-*" >&2; exit 1; }
  tail -n 1 "$out/$target.log"
done
