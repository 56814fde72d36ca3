#!/bin/sh
# rootless.sh HOME DEV COMMAND…: runs a command in which the user 64500 can run podman. The user has a home, a runtime
# directory and subordinate ids, and /dev has the files of DEV. For the namespaces of ns.sh.
set -eu
if [ -z "${ROOTLESS_INSIDE:-}" ]; then
    # podman leaves a process running that holds the user's namespaces.
    exec env ROOTLESS_INSIDE=1 unshare --pid --fork --kill-child --mount-proc sh "$0" "$@"
fi
user=64500 home=$1 dev=$2
shift 2

mkdir /run/etc
{ cat /etc/passwd; echo "mig-cdi-tests:x:$user:$user::$home:/bin/sh"; } >/run/etc/passwd
{ cat /etc/group; echo "mig-cdi-tests:x:$user:"; } >/run/etc/group
echo "$user:1000000000:65536" >/run/etc/subuid
cp /run/etc/subuid /run/etc/subgid
mount -t overlay overlay -o lowerdir=/run/etc:/etc /etc
mkdir -p "$home"
chown $user:$user "$home"
install -d -m 700 -o $user -g $user /run/user/$user

# These files are root's, whichever user unpacked the packages.
mkdir /run/bin
install -m 4755 -o root -g root /usr/bin/newuidmap /usr/bin/newgidmap /run/bin

mkdir /run/dev
mount --rbind /dev /run/dev
mount -t overlay overlay -o "lowerdir=$dev:/dev" /dev
mount --rbind /run/dev/pts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
cd "$home"
exec "$@"
