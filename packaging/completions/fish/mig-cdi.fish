# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mig_cdi_global_optspecs
    string join \n v/verbose config= node= source= driver-root= library-search-path= program-search-path= dev-root= proc-root= h/help V/version
end

function __fish_mig_cdi_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mig_cdi_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mig_cdi_using_subcommand
    set -l cmd (__fish_mig_cdi_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "generate" -d 'Write the CDI spec of this node\'s MIG devices'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "check" -d 'Check whether the spec on disk is current'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "compare" -d 'Compare another tool\'s CDI spec with ours'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "doctor" -d 'Find out why a slice does not work: a verdict on each line, with evidence and cure'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "configure" -d 'Configure an engine to read CDI specs'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "list" -d 'Show every GPU and MIG device of this node'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "map" -d 'Draw the layout of each GPU: its slices, their holders, free space, profiles that still fit'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "show" -d 'Show what a container gets with a device, and where each fact comes from'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "watch" -d 'Keep the spec current while MIG changes, until SIGTERM'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "status" -d 'Show the state of watch'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "nodes" -d 'Create or repair device nodes on the host'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "profiles" -d 'List the profiles of each GPU, how many more fit now, and where'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "plan" -d 'Show what apply would do: the steps in order, with reasons, and what stays'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "apply" -d 'Partition GPUs to a layout without disturbing slices in use'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "assert" -d 'Check whether GPUs have a layout; the exit code is 6 when one differs'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "export" -d 'Print the layouts of the GPUs, as a file for apply'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "checkpoint" -d 'Save the layouts of the GPUs, with every placement, for restore'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "restore" -d 'Restore a checkpoint, for example after a reboot, which destroys all instances'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s o -l output -d 'Write or check PATH; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l format -d 'Write the spec in this format [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l names -d 'Name devices in each STYLE [default: uuid,slot]' -r -f -a "uuid\t'UUID of the slice, MIG-…, as nvidia-smi -L prints it'
slot\t'GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l kind -d 'Set the CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l capabilities -d 'Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx, compat32; or all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l library-dirs -d 'Mount driver libraries into each DIR of the container, which its loader has to search without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l admin -d 'Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for containers that partition or monitor GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l verify -d 'Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same profile, placement and UUID, which needs NVML. If they differ, the container does not start' -r -f -a "proc\t'Check against /proc, in less than a millisecond'
full\t'Check against NVML too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l max-cdi-version -d 'Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l engines -d 'Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l gpus -d 'Write GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a second file in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l mask-params -d 'Mount a copy of /proc/driver/nvidia/params that forbids the driver\'s libraries to create device nodes. For engines with crun only: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one\'s value wins, so use this for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l ldcache-hook -d 'Add the first of --library-dirs to the loader\'s cache, by a hook that mounts a changed copy of /etc/ld.so.cache: for images whose loader searches none of --library-dirs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l remove -d 'Remove the spec instead, and with --gpus that of the GPUs. The driver is not queried'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s o -l output -d 'Write or check PATH; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l format -d 'Write the spec in this format [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l names -d 'Name devices in each STYLE [default: uuid,slot]' -r -f -a "uuid\t'UUID of the slice, MIG-…, as nvidia-smi -L prints it'
slot\t'GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l kind -d 'Set the CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l capabilities -d 'Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx, compat32; or all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l library-dirs -d 'Mount driver libraries into each DIR of the container, which its loader has to search without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l admin -d 'Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for containers that partition or monitor GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l verify -d 'Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same profile, placement and UUID, which needs NVML. If they differ, the container does not start' -r -f -a "proc\t'Check against /proc, in less than a millisecond'
full\t'Check against NVML too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l max-cdi-version -d 'Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l engines -d 'Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l gpus -d 'Write GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a second file in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l mask-params -d 'Mount a copy of /proc/driver/nvidia/params that forbids the driver\'s libraries to create device nodes. For engines with crun only: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one\'s value wins, so use this for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l ldcache-hook -d 'Add the first of --library-dirs to the loader\'s cache, by a hook that mounts a changed copy of /etc/ld.so.cache: for images whose loader searches none of --library-dirs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l names -d 'Name devices in each STYLE [default: uuid,slot]' -r -f -a "uuid\t'UUID of the slice, MIG-…, as nvidia-smi -L prints it'
slot\t'GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l kind -d 'Set the CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l capabilities -d 'Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx, compat32; or all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l library-dirs -d 'Mount driver libraries into each DIR of the container, which its loader has to search without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l admin -d 'Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for containers that partition or monitor GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l verify -d 'Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same profile, placement and UUID, which needs NVML. If they differ, the container does not start' -r -f -a "proc\t'Check against /proc, in less than a millisecond'
full\t'Check against NVML too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l max-cdi-version -d 'Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l engines -d 'Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one\'s value wins, so use this for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l ldcache-hook -d 'Add the first of --library-dirs to the loader\'s cache, by a hook that mounts a changed copy of /etc/ld.so.cache: for images whose loader searches none of --library-dirs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l host-root -d 'Look for engines, their configuration and the processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l engine-version -d 'Configure for this version, without running the engine to find out its own' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l host-root -d 'Change files below DIR, and find the engine there' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l dry-run -d 'Show the changes as a unified diff, and make none'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l undo -d 'Undo all that configure wrote for this engine. Refused when a file has been changed since'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l rootless -d 'Configure the engine of the user who runs this instead of root\'s: podman, docker'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l runtime -d 'Register mig-cdi-runtime too, as a runtime named mig-cdi'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l hook -d 'Register mig-cdi-hook for each container too: podman\'s precreate, CRI-O\'s create-runtime'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l quadlet -d 'Print a systemd unit of a container with a slice, for podman\'s Quadlet, and change nothing'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l tree -d 'Print a tree: each GPU, its GPU instances, their compute instances'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l svg -d 'Write the picture as SVG into FILE (- for standard output)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l in-use -d 'Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE is a UUID or another name of it, or the UUID or index of a whole GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l names -d 'Name devices in each STYLE [default: uuid,slot]' -r -f -a "uuid\t'UUID of the slice, MIG-…, as nvidia-smi -L prints it'
slot\t'GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l kind -d 'Set the CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l capabilities -d 'Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx, compat32; or all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l library-dirs -d 'Mount driver libraries into each DIR of the container, which its loader has to search without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l admin -d 'Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for containers that partition or monitor GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l verify -d 'Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same profile, placement and UUID, which needs NVML. If they differ, the container does not start' -r -f -a "proc\t'Check against /proc, in less than a millisecond'
full\t'Check against NVML too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l max-cdi-version -d 'Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l engines -d 'Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one\'s value wins, so use this for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l ldcache-hook -d 'Add the first of --library-dirs to the loader\'s cache, by a hook that mounts a changed copy of /etc/ld.so.cache: for images whose loader searches none of --library-dirs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l metrics-file -d 'Write metrics into FILE, for the textfile collector of Prometheus\' node exporter' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l interval -d 'Poll the driver\'s capability tree every MS milliseconds' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l resync -d 'Query NVML every S seconds even when nothing seems to have changed: only NVML reports a lost GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s o -l output -d 'Write or check PATH; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l format -d 'Write the spec in this format [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l names -d 'Name devices in each STYLE [default: uuid,slot]' -r -f -a "uuid\t'UUID of the slice, MIG-…, as nvidia-smi -L prints it'
slot\t'GPU, profile and start, such as 0:2g.20gb:4; it vanishes when the layout changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'GPU and MIG index, such as 0:1. It may become the name of another slice when slices are created or destroyed'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l kind -d 'Set the CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l capabilities -d 'Mount these classes of driver files: a list of compute, utility, video, graphics, display, ngx, compat32; or all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l library-dirs -d 'Mount driver libraries into each DIR of the container, which its loader has to search without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l admin -d 'Define nvidia.com/mig=config or =monitor too, each one capability over all slices of the node, for containers that partition or monitor GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l verify -d 'Verify the slices by a hook when a container starts: same numbers, same GPU; with full also same profile, placement and UUID, which needs NVML. If they differ, the container does not start' -r -f -a "proc\t'Check against /proc, in less than a millisecond'
full\t'Check against NVML too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l max-cdi-version -d 'Limit the CDI version of the spec to VERSION; with auto, to what all installed engines accept [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l engines -d 'Assume these engines, as podman=4.3.1,docker=26.1, or none, instead of the installed ones. They matter when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l leave-nodes -d 'Do not repair the host\'s device nodes; as root, watch does, like mig-cdi nodes'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l driver-events -d 'Subscribe to the driver\'s events of MIG changes, on GPUs whose MIG mode changes without a reset. A process then keeps NVML open, and the driver cannot be unloaded while it runs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l health -d 'Subscribe to critical errors (XIDs) of every GPU too. A process then keeps NVML open on all of them, and none can be reset while it runs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l gpus -d 'Write GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a second file in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l mask-params -d 'Mount a copy of /proc/driver/nvidia/params that forbids the driver\'s libraries to create device nodes. For engines with crun only: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two requested devices the last one\'s value wins, so use this for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l ldcache-hook -d 'Add the first of --library-dirs to the loader\'s cache, by a hook that mounts a changed copy of /etc/ld.so.cache: for images whose loader searches none of --library-dirs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l dry-run -d 'Print the changes, and make none'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l prune -d 'Only remove device nodes whose numbers now belong to another device'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s f -l file -d 'Read layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s c -l layout -l selected-config -d 'Use the layout NAME of FILE' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l in-use -d 'Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE is a UUID or another name of it, or the UUID or index of a whole GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s f -l file -d 'Read layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s c -l layout -l selected-config -d 'Use the layout NAME of FILE' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l evict -d 'Wait up to SECONDS for slices to be released; no holder is stopped' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l journal-dir -d 'Keep the journal of a change in progress in DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l in-use -d 'Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE is a UUID or another name of it, or the UUID or index of a whole GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l resume -d 'Finish an interrupted apply: reach its layout, or else the one before it'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l no-refresh -d 'Do not refresh the spec and the device nodes'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s f -l file -d 'Read layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s c -l layout -l selected-config -d 'Use the layout NAME of FILE' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l in-use -d 'Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE is a UUID or another name of it, or the UUID or index of a whole GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s c -l layout -d 'Name the layout NAME' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l pinned -d 'Print every placement, by UUID'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l evict -d 'Wait up to SECONDS for slices to be released; no holder is stopped' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l journal-dir -d 'Keep the journal of a change in progress in DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l in-use -d 'Treat SLICE as in use by HOLDER although nothing shows it, as for a pod that is about to start. SLICE is a UUID or another name of it, or the UUID or index of a whole GPU' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l state-dir -d 'Use DIR for status.json and leases' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l source -d 'Read the MIG state from this source' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l driver-root -d 'Look for driver files below DIR, for a driver that is installed in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l library-search-path -d 'Search DIR, below the driver root, for driver libraries before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l program-search-path -d 'Search DIR, below the driver root, for driver programs before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l dev-root -d 'Look for device nodes in DIR/dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l proc-root -d 'Read DIR/proc and DIR/sys in place of /proc and /sys [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l no-refresh -d 'Do not refresh the spec and the device nodes'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s v -l verbose -d 'Print details on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s V -l version -d 'Print version'
