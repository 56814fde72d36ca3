#!/bin/sh
# daemon.sh containerd|docker|crio DIR: runs an engine with all its files in DIR, with DIR/host over /etc, and with the
# root file system DIR/rootfs as its only image. It runs until standard input ends, which is when the test ends for any
# reason. It is the first process of a PID namespace, in the namespaces of ns.sh.
set -eu
[ $$ = 1 ] || { echo "daemon.sh: ends all processes that it sees, so it runs only as the first" >&2; exit 2; }
engine=$1 dir=$2
name=$(basename "$dir")
groups=/sys/fs/cgroup

# Kills all processes but this one, and removes the cgroups. rmdir fails with EBUSY while a killed process still exits.
end() {
    kill -KILL -1 2>/dev/null || true
    [ ! -e $groups/cgroup.procs ] || echo 0 >$groups/cgroup.procs
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left=$(find $groups -depth -type d -path "*/$name*" -print -exec rmdir {} \; 2>/dev/null || true)
        [ -n "$left" ] || break
        sleep 0.1
    done
}
trap end EXIT

# On cgroup v2 pods have no limits, as on some machines version 1 has the controllers. Without limits they have no parent
# cgroup, and runc puts them beside its own.
if [ -e $groups/cgroup.procs ]; then
    mkdir -p "$groups/$name/engine"
    echo 0 >"$groups/$name/engine/cgroup.procs"
fi

# With AppArmor, an engine would load its profile into the kernel, so the engines see none.
[ ! -d /sys/kernel/security ] || mount -t tmpfs tmpfs /sys/kernel/security

start_containerd() {
    containerd --config /etc/containerd/config.toml >"$dir/log" 2>&1 </dev/null &
    up="ctr --address $dir/socket version"
    load="ctr --address $dir/socket --namespace k8s.io images import --no-unpack"
}

# Docker starts a containerd of its own.
start_docker() {
    dockerd --config-file /etc/docker/daemon.json >"$dir/log" 2>&1 </dev/null &
    up="docker --host unix://$dir/socket version"
    load="docker --host unix://$dir/socket load --input"
}

# CRI-O and podman share containers/storage: an image that podman loads is an image of CRI-O.
start_crio() {
    "$CRIO" --config /etc/crio/crio.conf --config-dir /etc/crio/crio.conf.d >"$dir/log" 2>&1 </dev/null &
    up="$CRIO status --socket $dir/socket info"
    load="podman --root $dir/root --runroot /run/crio-storage --storage-driver vfs load --input"
}

# Engines get the files of DIR/host. An overlay keeps the other files of /etc, and takes the directories that engines make.
mkdir /run/etc /run/work
mount -t overlay overlay -o "lowerdir=$dir/host/etc:/etc,upperdir=/run/etc,workdir=/run/work" /etc
sh "$(dirname "$0")/image.sh" "$dir/rootfs" "$dir/image.tar"
"start_$engine"
until $up >/dev/null 2>&1; do
    kill -0 $! || exit 1
    sleep 0.1
done
$load "$dir/image.tar" >>"$dir/log" 2>&1
: >"$dir/ready"
cat >/dev/null
