# prerequisites.sh: functions that check what a script needs before it spends minutes. Each adds to $problems what is missing and how
# to install it; check_prerequisites ends the script when there are problems. Source it in the root of the project.
# shellcheck shell=sh
problems=

add_problem() {
    problems="$problems
  $1"
}

# need_rust: the rust-version of Cargo.toml, or a newer one.
need_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    install="install it with rustup (https://rustup.rs): curl --proto '=https' -sSf https://sh.rustup.rs | sh"
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        add_problem "Rust $needed: not found; $install"
        return
    fi
    found=$(rustc --version | sed 's/^rustc \([0-9]*\.[0-9]*\).*/\1/')
    if [ "$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)" != "$needed" ]; then
        # Debian 12 has 1.63, and the cargo of its backports is too old as well.
        add_problem "Rust $needed: $(command -v rustc) is $found; $install"
    fi
}

# need_disk GIB: free space in the directory of the project.
need_disk() {
    free=$(($(df -Pk . | awk 'NR == 2 { print $4 }') / 1048576))
    [ "$free" -ge "$1" ] || add_problem "$1 GiB of disk: $PWD has $free GiB"
}

# need_root WHY: root, or sudo, which asks for its password now and not after the build.
need_root() {
    [ "$(id -u)" != 0 ] || return 0
    if ! command -v sudo >/dev/null; then
        add_problem "root ($1): run it as root, or install sudo"
    elif ! sudo -n true 2>/dev/null; then
        echo "$0: root is needed: $1" >&2
        sudo -v || add_problem "root ($1): sudo refused"
    fi
}

# need_commands COMMAND:PACKAGE…: programs, and the Debian packages that have them, in one line.
need_commands() {
    missing=
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
    done
    [ -z "$missing" ] || add_problem "Debian packages: apt-get install$missing"
}

# need_to_build: what every build needs. Ends the script without it.
need_to_build() {
    need_rust
    need_commands cc:gcc
    check_prerequisites
}

# need_for_packages COMMAND:PACKAGE…: what packaging/deb and packaging/rpm have in common, and these programs.
need_for_packages() {
    need_rust
    need_commands cc:gcc make:make git:git xz:xz-utils "$@"
    command -v cargo-auditable >/dev/null || add_problem "cargo auditable: cargo install --locked cargo-auditable"
    target=$(uname -m)-unknown-linux-musl
    [ ! -x "$(command -v rustc)" ] || [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] ||
        add_problem "Rust's target for the static hook: rustup target add $target"
    check_prerequisites
}

# lacks_for_host: prints why the tests of the tier host cannot run, or nothing.
lacks_for_host() {
    root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "it needs root, and there is no sudo" && return; }
        if ! sudo -n true 2>/dev/null; then
            [ -t 0 ] || { echo "it needs root, and sudo asks for a password" && return; }
            echo "$0: the tier host needs root" >&2
            sudo -v || { echo "it needs root, and sudo refused" && return; }
        fi
        root=sudo
    fi
    command -v apt-get >/dev/null || { echo "it installs packages of Debian, and there is no apt-get" && return; }
    $root unshare --mount --pid --fork true 2>/dev/null || { echo "unshare --mount is not permitted here" && return; }
    node=$(mktemp -u)
    $root mknod "$node" c 508 1 2>/dev/null || { echo "mknod is not permitted here" && return; }
    $root rm "$node"
}

# check_prerequisites: ends the script when something is missing.
check_prerequisites() {
    [ -z "$problems" ] || {
        echo "$0: missing:$problems" >&2
        exit 2
    }
}

# keep_sudo: keeps the permission of sudo alive until the script ends.
keep_sudo() {
    [ "$(id -u)" != 0 ] || return 0
    script=$$
    (while kill -0 "$script" 2>/dev/null; do sudo -n -v && sleep 50 || exit; done) >/dev/null 2>&1 &
}
