#!/bin/sh
# setup.sh [TIER…]: installs what tiers of tests/run need on Debian 12 with Rust, unless it is installed already: host,
# and engines, kubernetes and soak, which need the same and more. Without a tier, all. Only the tools of systemd are
# needed: it becomes the machine's init only with the package systemd-sysv. The packages need root. Other downloads go
# below target/test-deps.
set -eu
cd "$(dirname "$0")/.."
. tests/fetch.sh
tiers=${*:-host engines kubernetes soak}

missing=
for pair in podman:podman runc:runc crun:crun conmon:conmon busybox:busybox-static cc:gcc c++:g++ \
    strace:strace nm:binutils make:make script:bsdutils setpriv:util-linux time:time curl:curl openssl:openssl \
    systemd-analyze:systemd systemd-tmpfiles:systemd python3:python3 pip3:python3-pip \
    mandoc:mandoc zsh:zsh fish:fish; do
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

# The hook is a static program, built for musl.
target=$(uname -m)-unknown-linux-musl
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    command -v rustup >/dev/null || {
        echo "tests/setup.sh: no rustup to add the target $target; install the one of your Rust" >&2
        exit 1
    }
    rustup target add "$target"
fi

# NVIDIA's own user-space files, for tests with real libraries. There is no driver behind them.
fetch nvidia trixie non-free amd64 libnvidia-ml1 libcuda1 libnvidia-ptxjitcompiler1 libnvidia-nvvm4 \
    libnvidia-cfg1 libnvidia-pkcs11-openssl3 libcudadebugger1 nvidia-smi
# The loader and libraries of two kinds of containers: Debian's, and one whose loader searches /lib64 and /usr/lib64, as
# those of RPM distributions do. Debian builds such a loader for its 32-bit port.
fetch debian-root bookworm main amd64 libc6 libgcc-s1
fetch lib64-root bookworm main i386 libc6-amd64 lib64gcc-s1
# Helm as a library, with which tests/helm lints and renders the chart. Debian has no Helm.
if [ ! -d "$deps/helm" ]; then
    rm -rf "$deps/helm.new"
    echo 'helm-python-sdk==0.2.2 \
        --hash=sha256:28cc13abaf134c3a7e37f070c939be8d9cdc9825c3c8b8b2d35161073bcd4578' >"$deps/helm.txt"
    python3 -m pip install --quiet --no-deps --only-binary :all: --require-hashes --root-user-action ignore \
        --target "$deps/helm.new" --requirement "$deps/helm.txt"
    mv "$deps/helm.new" "$deps/helm"
fi

case $tiers in *engines* | *kubernetes*)
    # Engines that support CDI: containerd and Docker of Debian 12 do not. These newer ones run there unchanged.
    fetch engines trixie main "$(dpkg --print-architecture)" containerd docker.io docker-cli
    # The next release, for its own view of its files. Debian's next stable release has it in testing and sid.
    fetch containerd-2 sid main "$(dpkg --print-architecture)" containerd
    # podman's next releases, for the same. Debian has podman 6 in experimental, and later in sid.
    fetch podman-next sid main "$(dpkg --print-architecture)" --libraries podman
    architecture=$(dpkg --print-architecture)
    [ -d $deps/podman-6 ] ||
        sh -euc ". tests/fetch.sh; fetch podman-6 experimental main $architecture podman" ||
        fetch podman-6 sid main "$architecture" podman
    fetch compose trixie main "$(dpkg --print-architecture)" docker-compose
    # podman of Debian 13 with its OCI runtimes, and those of its libraries that Debian 12 lacks or has in older versions.
    # They are mounted over /usr in a mount namespace.
    fetch podman trixie main "$(dpkg --print-architecture)" podman conmon crun runc netavark uidmap libc6 libassuan9 \
        libaudit1 libbsd0 libcap2 libcap-ng0 libglib2.0-0t64 libgpg-error0 libgpgme11t64 libmd0 libpcre2-8-0 libseccomp2 \
        libselinux1 libsqlite3-0 libsubid5 libsystemd0 libyajl2
    ;;
esac
case $tiers in *kubernetes*)
    # A Kubernetes node; this takes minutes the first time.
    tests/kubernetes/setup
    ;;
esac
