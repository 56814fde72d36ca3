#!/bin/sh
# ns.sh v1|v2 COMMAND…: runs a command in a private mount namespace with an empty /run and /etc/cdi and with this cgroup
# version, whatever the machine has: v2 is one cgroup2 mount, v1 is one mount for each controller that is not bound to
# version 2. Needs root. Programs and libraries of the directory OVER, if there is one, hide those of /usr.
set -eu
if [ -z "${NS_INSIDE:-}" ]; then
    exec env NS_INSIDE=1 unshare --mount --propagation private sh "$0" "$@"
fi
mode=$1
shift
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
case $mode in
v2) mount -t cgroup2 none /sys/fs/cgroup ;;
v1)
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for controller in devices cpu cpuacct cpuset memory freezer blkio pids; do
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" none "/sys/fs/cgroup/$controller" 2>/dev/null ||
            rmdir "/sys/fs/cgroup/$controller"
    done
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd none /sys/fs/cgroup/systemd
    [ -d /sys/fs/cgroup/devices ] || { echo "ns.sh: the kernel has no v1 devices controller" >&2; exit 1; }
    ;;
*) echo "ns.sh: v1 or v2" >&2; exit 2 ;;
esac
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
[ -z "${OVER:-}" ] || mount -t overlay overlay -o "lowerdir=$OVER/usr:/usr" /usr
[ ! -d /etc/cdi ] || mount -t tmpfs -o mode=755 tmpfs /etc/cdi
exec "$@"
