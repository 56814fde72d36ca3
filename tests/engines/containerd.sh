#!/bin/sh
# containerd.sh DIR SPECS: containerd with all that it writes in DIR, which takes CDI specs from SPECS and
# has the root file system DIR/rootfs as its only image. It runs until standard input ends, which is
# when the test ends, however it ends. For the first process of a pid namespace, in what ns.sh makes.
set -eu
[ $$ = 1 ] || { echo "containerd.sh: ends all processes that it sees, so it runs only as the first" >&2; exit 2; }
dir=$1 specs=$2
name=$(basename "$dir")

# On cgroup v2 pods have no limits, as not every machine gives controllers to this version, and then no
# parent either: runc puts them beside its own group.
no_limits=false
groups=/sys/fs/cgroup
if [ -e $groups/cgroup.procs ]; then
    no_limits=true
    mkdir -p "$groups/$name/engine"
    echo 0 >"$groups/$name/engine/cgroup.procs"
fi

mkdir "$dir/image"
cd "$dir/image"

# The format of docker save: one layer, a configuration, and a list of both. The same image holds a
# pod open and runs in it.
tar -C "$dir/rootfs" -cf layer.tar .
cat >config.json <<END
{"architecture":"$(dpkg --print-architecture)","os":"linux","config":{"Entrypoint":["sleep","1000000"],"Env":["PATH=/bin"]},
 "rootfs":{"type":"layers","diff_ids":["sha256:$(sha256sum <layer.tar | cut -d ' ' -f 1)"]}}
END
echo '[{"Config":"config.json","RepoTags":["localhost/probe:1"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf ../image.tar config.json manifest.json layer.tar

# The native snapshotter asks nothing of the file system below. Less likely to be killed for memory a
# process becomes only with CAP_SYS_RESOURCE.
cat >"$dir/config.toml" <<END
version = 2
root = "$dir/root"
state = "/run/containerd"
[grpc]
address = "$dir/socket"
[plugins."io.containerd.grpc.v1.cri"]
enable_cdi = true
cdi_spec_dirs = ["$specs"]
sandbox_image = "localhost/probe:1"
disable_apparmor = true
disable_cgroup = $no_limits
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
END
containerd --config "$dir/config.toml" >"$dir/log" 2>&1 </dev/null &
until ctr --address "$dir/socket" version >/dev/null 2>&1; do
    kill -0 $! || exit 1
    sleep 0.1
done
ctr --address "$dir/socket" --namespace k8s.io images import --snapshotter native "$dir/image.tar" >>"$dir/log" 2>&1
: >"$dir/ready"
cat >/dev/null

# All but this process. What a group held may take a moment to be gone.
kill -KILL -1
[ $no_limits = false ] || echo 0 >$groups/cgroup.procs
for _ in 1 2 3 4 5 6 7 8 9 10; do
    left=$(find $groups -depth -type d -path "*/$name*" -print -exec rmdir {} \; 2>/dev/null)
    [ -n "$left" ] || break
    sleep 0.1
done
