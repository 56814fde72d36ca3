#!/bin/sh
# node.sh DIR: turns the namespaces of a containerd into those of a Kubernetes node, and writes the configuration of its
# programs to DIR. The node has the address 192.0.2.1, which RFC 5737 reserves, in a network without another host.
set -eu
dir=$1
name=$(basename "$dir")
# Outside the namespaces of a node this script would change the machine.
[ "$(busybox ip -o link | wc -l)" -le 2 ] && [ -e "$dir/ready" ] || { echo "node.sh: not in a node's namespaces" >&2; exit 2; }
busybox ip link set lo up
busybox ip address add 192.0.2.1/32 dev lo

# kubelet has fixed paths for its files, logs and sockets, so the machine's are hidden, except for the hosts of tests.
mkdir /run/hosts
mount --bind /var/lib/mig-cdi-tests /run/hosts
for path in /var/lib /var/log; do
    mount -t tmpfs -o mode=755 tmpfs $path
done
mkdir /var/lib/mig-cdi-tests /var/lib/kubelet "$dir/kubelet"
mount --bind /run/hosts /var/lib/mig-cdi-tests
mount --bind "$dir/kubelet" /var/lib/kubelet
# containerd must see what kubelet mounts for a pod.
mount --make-rshared /

# kubelet would set these sysctls for the whole machine, since they belong to no namespace. It finds files with the values
# that it wants (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables).
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=/run/sysctl-$(echo "${pair%=*}" | tr / -)
    echo "${pair#*=}" >"$file"
    mount --bind "$file" "/proc/sys/${pair%=*}"
done

# Parent of the cgroups of all pods. daemon.sh removes cgroups of this name when the engine ends.
for controller in /sys/fs/cgroup/*/; do
    mkdir -p "$controller$name"
done

# A network for pods, with an address and nothing behind it. The plugin is called loopback because containerd always runs
# that one.
mkdir -p "$dir/cni"
cat >"$dir/cni/loopback" <<'END'
#!/bin/sh
# This is the result of ADD. containerd ignores the output of the other commands.
echo "{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"$CNI_IFNAME\",\"sandbox\":\"$CNI_NETNS\"}],
 \"ips\":[{\"version\":\"4\",\"address\":\"192.0.2.2/32\",\"interface\":0}]}"
END
chmod +x "$dir/cni/loopback"
echo '{"cniVersion":"0.4.0","name":"nothing","plugins":[{"type":"loopback"}]}' >"$dir/cni/new"
mv "$dir/cni/new" "$dir/cni/nothing.conflist"

mkdir "$dir/pki"
openssl ecparam -name prime256v1 -genkey -noout -out "$dir/pki/accounts.key"
echo 'tests,tests,1,system:masters' >"$dir/pki/tokens"
cat >"$dir/kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: node, cluster: {server: "https://192.0.2.1:6443", certificate-authority: $dir/pki/apiserver.crt}}]
users: [{name: tests, user: {token: tests}}]
contexts: [{name: tests, context: {cluster: node, user: tests}}]
current-context: tests
END
# The API server has no client certificate for kubelet. The low threshold of memory avoids evictions because of the load
# of other programs on the machine.
cat >"$dir/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 192.0.2.1
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$name
enforceNodeAllocatable: []
evictionHard: {memory.available: 1Mi}
failSwapOn: false
healthzPort: 0
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 1s
volumePluginDir: $dir/volume-plugins
END
