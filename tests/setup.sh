#!/bin/sh
# setup.sh: installs what the tests need on Debian 12 with Rust, and nothing that is there already.
# Needs root for the packages. What it fetches besides goes below target/test-deps.
set -eu
cd "$(dirname "$0")/.."
deps=target/test-deps
mkdir -p "$deps"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing=
for pair in podman:podman runc:runc crun:crun conmon:conmon busybox:busybox-static cc:gcc c++:g++ \
    strace:strace nm:binutils make:make script:bsdutils setpriv:util-linux time:time; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
# The shell has a builtin of this name.
[ -x /usr/bin/time ] || missing="$missing time"
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
if [ -n "$missing" ]; then
    as_root apt-get update -q
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
fi

# NVIDIA's own libnvidia-ml.so.1, from Debian trixie's non-free, unpacked and not installed: the loader
# has to cope with a library that is not ours. There is no driver behind it.
if [ ! -d "$deps/libnvidia-ml/usr" ]; then
    apt=$deps/apt
    mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/empty"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie non-free" \
        >"$apt/sources.list"
    options="-o Dir::State::Lists=$PWD/$apt/lists -o Dir::Cache=$PWD/$apt -o Dir::Etc::SourceList=$PWD/$apt/sources.list
        -o Dir::Etc::SourceParts=$PWD/$apt/empty -o APT::Sandbox::User= -o APT::Architecture=amd64"
    # shellcheck disable=SC2086
    apt-get $options update -q
    # shellcheck disable=SC2086
    (cd "$apt" && apt-get $options download -q libnvidia-ml1)
    dpkg-deb -x "$apt"/libnvidia-ml1_*.deb "$deps/libnvidia-ml.new"
    rm -rf "$apt"
    mv "$deps/libnvidia-ml.new" "$deps/libnvidia-ml"
fi
