#!/bin/sh
# cgroups.sh COMMAND…: runs a command in which podman works, then removes the cgroups that podman leaves: that of conmon
# and its parent, in every hierarchy. Their names are the same for all podmans of the machine, so the last command that
# runs removes them: each holds a shared lock on /var/lib, which is one for all checkouts of the project, unlike this file.
# For the namespaces of ns.sh.
set -eu
exec 9</var/lib
flock --shared 9
code=0
# In a PID namespace, whose processes end with the command. conmon starts `podman container cleanup` when a container ends,
# which would go on after the command, and make podman's directories again while the test removes them. With PIDS=machine it has the
# PID namespace of the machine, for a program that has to see it, and what is left in its mount namespace is killed.
if [ "${PIDS:-}" = machine ]; then
    "$@" 9<&- || code=$?
    own=$(readlink /proc/$$/ns/mnt)
    for process in /proc/[0-9]*; do
        [ "$process" = /proc/$$ ] || [ "$(readlink "$process/ns/mnt" 2>/dev/null)" != "$own" ] ||
            kill -KILL "${process#/proc/}" 2>/dev/null || true
    done
else
    unshare --pid --fork --kill-child --mount-proc "$@" 9<&- || code=$?
fi
flock --unlock 9
if flock --exclusive --nonblock 9; then
    # A cgroup is busy for a moment after its last process was killed.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left=$(find /sys/fs/cgroup -maxdepth 4 -depth -type d -path '*/libpod_parent*' -print -exec rmdir {} \; 2>/dev/null || true)
        [ -n "$left" ] || break
        sleep 0.1
    done
fi
exit "$code"
