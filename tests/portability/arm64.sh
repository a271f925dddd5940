#!/usr/bin/env bash
# 64-bit ARM Linux beside this machine's own: Debian's Python 3.11, NumPy, this package's C modules cross-compiled, all
# run by qemu-aarch64 from one folder. Nothing is installed and no setting of the system changes.
#
#   arm64.sh setup FOLDER           fetch and unpack what is missing, lay this checkout in, compile it
#   arm64.sh run FOLDER ARGUMENT .. python3.11 there with these arguments
#
# Needs Debian's qemu-user and gcc, apt-get's sources (Debian 12) and pip's index. ONNX Runtime crashes in qemu 7.2, so what
# imports it is not tried here: files are read and written, kernels multiply, integers are emulated.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
verb=${1:?setup or run}
folder=$(mkdir -p "${2:?a folder}" && cd "$2" && pwd)
shift 2

DEBIAN="libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libuuid1 libpython3.11-minimal
  libpython3.11-stdlib libpython3.11-dev python3.11-minimal python3.11"
CROSS="gcc-12-aarch64-linux-gnu cpp-12-aarch64-linux-gnu binutils-aarch64-linux-gnu libgcc-12-dev-arm64-cross
  libc6-dev-arm64-cross linux-libc-dev-arm64-cross"
WHEELS="numpy pytest pluggy iniconfig packaging Pygments hypothesis sortedcontainers"

need() {
  command -v "$1" >/dev/null || { echo "arm64.sh needs $1. Cure: $2" >&2; exit 1; }
}

# Debian packages of an architecture (amd64: this machine's), unpacked into a folder; apt's lists are the folder's own.
debian() {
  local machine=$1 root=$2
  shift 2
  local state="$folder/apt-$machine"
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/deb" "$root"
  : >"$state/status"
  cat >"$state/apt.conf" <<CONF
APT::Architecture "$machine";
APT::Architectures { "$machine"; };
APT::Sandbox::User "root";
Dir::State::Lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
CONF
  export APT_CONFIG="$state/apt.conf"
  apt-get -qq update
  (cd "$state/deb" && apt-get -qq download "$@")
  unset APT_CONFIG
  for package in "$state"/deb/*.deb; do dpkg -x "$package" "$root"; done
}

wheels() {
  local platforms=()
  for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
  done
  # shellcheck disable=SC2086
  "$here/.venv/bin/python" -m pip --disable-pip-version-check download -q --no-deps --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none "${platforms[@]}" \
    -d "$folder/wheels" -c "$here/constraints.txt" $WHEELS
  for wheel in "$folder"/wheels/*.whl; do "$here/.venv/bin/python" -m zipfile -e "$wheel" "$folder/site"; done
}

# A Python that a test can start again as sys.executable, though the kernel knows no ARM programs.
python() {
  cat >"$folder/python" <<SCRIPT
#!/bin/sh
exec env PYTHONPATH="$folder/site" PYTHONDONTWRITEBYTECODE=1 \\
  qemu-aarch64 -L "$folder/root" "$folder/root/usr/bin/python3.11" "\$@"
SCRIPT
  chmod +x "$folder/python"
  echo "import sys; sys.executable = '$folder/python'" >"$folder/site/sitecustomize.py"
}

# This checkout's package without what was compiled for another processor, then compiled for this one by setup.py. No
# library is linked: what the modules call is in the process already.
package() {
  local compiler="$folder/cross/usr/bin/aarch64-linux-gnu-gcc-12" headers="$folder/root/usr/include"
  rm -rf "$folder/site/laconic" "$folder/build"
  cp -r "$here/src/laconic" "$folder/site/laconic"
  find "$folder/site/laconic" -name '*.so' -delete
  (cd "$here" && LD_LIBRARY_PATH="$folder/cross/usr/lib/x86_64-linux-gnu" CC="$compiler" \
    CFLAGS="-I$headers/python3.11 -I$headers" LDSHARED="$compiler -shared -nostdlib" \
    "$here/.venv/bin/python" setup.py -q build_ext --plat-name linux-aarch64 --build-lib "$folder/site" \
    --build-temp "$folder/build")
}

case $verb in
setup)
  need qemu-aarch64 "apt-get install qemu-user"
  need apt-get "a Debian 12 or a container of it: its packages for arm64 are what runs here"
  # shellcheck disable=SC2086
  [ -e "$folder/root/usr/bin/python3.11" ] || debian arm64 "$folder/root" $DEBIAN
  # shellcheck disable=SC2086
  [ -e "$folder/cross/usr/bin/aarch64-linux-gnu-gcc-12" ] || debian amd64 "$folder/cross" $CROSS
  [ -d "$folder/site/numpy" ] || wheels
  python
  package
  ;;
run) exec "$folder/python" "$@" ;;
*) echo "setup or run" >&2; exit 2 ;;
esac
