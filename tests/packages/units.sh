# units.sh: checks that a container's slice changes no systemd unit but the container's own scope. To be sourced after
# assertions.sh, in a booted system with our programs, a spec, and podman with these OCI runtimes:
# shellcheck shell=sh
# test_units RUNTIME…
#
# No driver has major 42 (Documentation/admin-guide/devices.txt), nor is there a link to this device in /dev/char: opening it
# ends with ENXIO where it is allowed, as a slice's nodes, and with EPERM where not.
allowed="No such device or address"
denied="Operation not permitted"
slice=/dev/nvidia-caps/nvidia-cap31

# open TEXT CONTAINER PATH…: each open in a container prints the text.
open() {
    text=$1 container=$2
    shift 2
    for path; do prints "$text" podman exec "$container" cat "$path" || return 1; done
}
podman_with_hook() { podman --runtime "$runtime" --events-backend file --hooks-dir /run/hooks.d "$@"; }
policy() { systemctl show --property=DevicePolicy,DeviceAllow "$1"; }
last_refusal() { journalctl --no-pager --identifier mig-cdi-hook --lines 1 | prints "$1" cat; }
no_drop_in() { same "$(find /run/systemd /etc/systemd -path "*$1*DeviceAllow*")" ''; }

# service SLICE [SETTING…]: makes split.service, whose container has /dev/sample, and the slice of this annotation. It is
# what Quadlet makes of a file, as far as cgroups go; where there is a Quadlet, it makes it.
service() {
    annotation=$1
    shift
    rm -rf /run/systemd/system/split.service /run/containers/systemd
    if [ -x /usr/lib/systemd/system-generators/podman-system-generator ]; then
        mkdir -p /run/containers/systemd
        {
            printf '[Container]\nContainerName=split\nRootfs=/test/rootfs\nExec=sleep 1000\nNetwork=none\nAddDevice=/dev/sample\nPodmanArgs=--stop-timeout=0\n'
            printf 'GlobalArgs=--runtime %s --events-backend file --hooks-dir /run/hooks.d\n' "$runtime"
            [ "$annotation" = none ] || printf 'Annotation=mig-cdi/devices=%s\n' "$annotation"
            printf '[Service]\n'
            printf '%s\n' "$@"
        } >/run/containers/systemd/split.container
    else
        {
            printf '[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nKillMode=mixed\n'
            printf 'ExecStart=podman --runtime %s --events-backend file --hooks-dir /run/hooks.d run ' "$runtime"
            printf '%s' '--name=split --replace --rm --cgroups=split --sdnotify=conmon -d --network none --device /dev/sample '
            [ "$annotation" = none ] || printf -- '--annotation mig-cdi/devices=%s ' "$annotation"
            printf -- '--rootfs /test/rootfs sleep 1000\nExecStop=podman rm -f -i -t 0 split\nExecStopPost=-podman rm -f -i -t 0 split\n'
            printf '%s\n' "$@"
        } >/run/systemd/system/split.service
    fi
    systemctl daemon-reload
}

# bundle: makes a bundle whose container has its own scope, asks for a slice, and has a device rule that denies after one that allows.
# No option of podman makes such a rule, and crun refuses it in a scope.
bundle() {
    mkdir -p /run/bundle
    cat >/run/bundle/config.json <<'EOF'
{
    "ociVersion": "1.0.2",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["sleep", "1000"], "env": ["PATH=/usr/bin:/bin"], "cwd": "/"},
    "root": {"path": "/test/rootfs"},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
    ],
    "annotations": {"mig-cdi/devices": "0:2g.20gb:0"},
    "hooks": {"createRuntime": [{
        "path": "/usr/bin/mig-cdi-hook", "args": ["mig-cdi-hook", "create-runtime"], "env": ["MIG_CDI_HOOK=create-runtime"]
    }]},
    "linux": {
        "cgroupsPath": "system.slice:mig-cdi:denies",
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}],
        "resources": {"devices": [
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 42, "minor": 7, "access": "rw"},
            {"allow": false, "type": "c", "major": 42, "minor": 8, "access": "rwm"}
        ]}
    }
}
EOF
}

test_units() {
    [ -c /dev/sample ] || mknod /dev/sample c 42 7
    mkdir -p /run/hooks.d
    cp /usr/share/mig-cdi/hooks.d/mig-cdi-create-runtime.json /run/hooks.d
    for runtime; do
        echo "slices and the units of systemd, with $runtime"
        service none
        check "a service starts" systemctl restart split.service
        check "its container has another device" open "$allowed" split /dev/sample
        check "its container has no slice" prints "No such file" podman exec split cat $slice
        service 0:2g.20gb:0
        check "the service starts with a slice" systemctl restart split.service
        check "its container has the slice and the other device" open "$allowed" split /dev/sample $slice
        check "the service has no device policy" same "$(policy split.service)" DevicePolicy=auto
        systemctl daemon-reload
        check "its container has both after a daemon-reload" open "$allowed" split /dev/sample $slice
        service 0:2g.20gb:6
        check "the service does not start without its slice" not systemctl restart split.service
        service none
        check "the service starts again" systemctl restart split.service
        check "its container has the other device" open "$allowed" split /dev/sample
        check "the service has no device policy" same "$(policy split.service)" DevicePolicy=auto
        check "nothing was set for the service" no_drop_in split.service

        # Without a slice the container has what the service has.
        service none 'DeviceAllow=/dev/char/42:7 rwm'
        check "a service with a device policy starts" systemctl restart split.service
        before=$(policy split.service)
        check "its container has the device that the service has" open "$allowed" split /dev/sample
        for more in DeviceAllow= 'DeviceAllow=char-* m'; do
            service 0:2g.20gb:0 "$more" 'DeviceAllow=/dev/char/42:7 rwm'
            check "the service does not start with a slice that it denies" not systemctl restart split.service
            check "the reason names the service" last_refusal "allow each node of the slice in split.service"
        done
        service none 'DeviceAllow=/dev/char/42:7 rwm'
        check "the service has its device policy" same "$(policy split.service)" "$before"
        check "nothing was set for the service" no_drop_in split.service
        service 0:2g.20gb:0 'DeviceAllow=/dev/char/42:7 rwm' 'DeviceAllow=char-* rwm'
        check "a service with a device policy starts with a slice that it allows" systemctl restart split.service
        check "its container has the slice and the other device" open "$allowed" split /dev/sample $slice
        check "the service stops" systemctl stop split.service

        id=$(podman_with_hook run -d --name own --network none --device /dev/sample --annotation mig-cdi/devices=0:2g.20gb:0 \
            --rootfs /test/rootfs sleep 1000)
        check "a container in its own scope has the slice and the other device" open "$allowed" own /dev/sample $slice
        systemctl daemon-reload
        check "it has both after a daemon-reload" open "$allowed" own /dev/sample $slice
        check "it has no other device" prints "$denied" podman_with_hook exec own sh -c \
            'mknod /tmp/node c 508 39 && cat /tmp/node'
        podman_with_hook rm -f -t 0 own >/dev/null
        check "its scope ends with it" no_drop_in "libpod-$id"

        [ "$runtime" = runc ] || continue
        bundle
        check "a container whose rules systemd cannot express does not start" \
            not "$runtime" --systemd-cgroup run --detach --bundle /run/bundle denies
        check "the reason names its scope" last_refusal "allow devices in the systemd unit mig-cdi-denies.scope: systemd cannot express"
        "$runtime" delete --force denies >/dev/null 2>&1
        sed -i 's/"annotations".*/"annotations": {},/' /run/bundle/config.json
        check "it starts without a slice" "$runtime" --systemd-cgroup run --detach --bundle /run/bundle denies
        "$runtime" delete --force denies
    done
    rm -rf /run/systemd/system/split.service /run/containers/systemd /run/hooks.d /run/bundle
    systemctl daemon-reload
    systemctl reset-failed
}
