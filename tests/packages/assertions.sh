# assertions.sh: functions of the tests in booted systems. To be sourced. Each check prints a line, and the last line shows
# tests/packages/run whether all passed.
# shellcheck shell=sh disable=SC2034
set -u
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
spec=/run/cdi/nvidia.com-mig.json
failed=0

# check NAME COMMAND…: checks that a command exits with 0.
check() {
    name=$1
    shift
    if "$@" >/run/check.output 2>&1; then
        echo "  passed  $name"
    else
        echo "  FAILED  $name: $* ended with $?"
        sed 's/^/          /' /run/check.output
        failed=1
    fi
}
not() { ! "$@"; }
# soon COMMAND…: retries a command for ten seconds, since a service writes its files after systemd reports it as started.
soon() {
    for _ in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    "$@"
}
# prints TEXT COMMAND…: checks that the output of a command contains this text, whatever its exit code.
prints() {
    text=$1
    shift
    "$@" 2>&1 | tee /run/prints.output | grep -qF -e "$text" || { cat /run/prints.output; return 1; }
}
is_active() { systemctl --quiet is-active mig-cdi.service; }
property() { systemctl show --property="$2" --value "$1"; }
same() { [ "$1" = "$2" ] || { echo "$1 is not $2"; return 1; }; }
checksum() { sha256sum <"$1" || echo none; }
no_failed_unit() { same "$(systemctl list-units --failed --plain --no-legend)" ''; }
container() {
    podman --runtime runc --events-backend file run --rm --network none "$@"
}
# Prints the files of ours that a removal left. Package managers and systemd keep records of removed packages.
leftovers() {
    find / -xdev \( -path /test -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /var/lib/systemd \
        -o -path /var/lib/apt -o -path /usr/lib/sysimage -o -path /var/lib/rpm \) -prune -o -name '*mig-cdi*' -print
    find /run -name '*mig-cdi*' -print
}
print_system() { echo "$(. /etc/os-release; echo "$PRETTY_NAME"), systemd $(systemctl --version | awk 'NR == 1 { print $2 }')"; }
finish() {
    if [ $failed = 0 ]; then
        echo "all checks passed"
    else
        journalctl --no-pager --unit 'mig-cdi*'
    fi
}
