# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mig_cdi_global_optspecs
    string join \n v/verbose config= node= source= driver-root= library-search-path= dev-root= proc-root= h/help V/version
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
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "generate" -d 'Write the CDI spec of this node\'s MIG devices'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "check" -d 'Say whether the spec on disk still tells the truth'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "compare" -d 'Show what a spec of another tool gives a slice that ours does not, and the reverse'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "doctor" -d 'Say why it does not work: a verdict on a line, what was seen, and what cures it'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "configure" -d 'Have an engine read the specs: change its configuration, and nothing else of it'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "list" -d 'Show every GPU and MIG device of this node'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "map" -d 'Draw how each GPU is divided: its slices, who holds them, what is free, what still fits'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "show" -d 'Show what a container gets with a device, and from which facts'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "watch" -d 'Keep the spec true while MIG changes, until it is told to stop'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "status" -d 'Show what watch did last, and what it knows'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "nodes" -d 'Make what is missing or wrong of the host\'s device nodes'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "profiles" -d 'Show what each GPU can be divided into, what still fits now, and where'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "plan" -d 'Show what apply would do, in order and with the reasons, and what stays'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "apply" -d 'Divide GPUs as wished, without disturbing slices in use'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "assert" -d 'Say whether GPUs are divided as wished; the exit code is 6 when one is not'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "export" -d 'Print how the GPUs are divided, as a file of layouts'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "checkpoint" -d 'Write down how the GPUs are divided, with every placement, for restore'
complete -c mig-cdi -n "__fish_mig_cdi_needs_command" -f -a "restore" -d 'Divide the GPUs as a checkpoint says: no instance outlives a restart of the machine'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s o -l output -d 'The file to write or to check; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l format -d 'json or yaml [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l names -d 'How devices are named; each gets all of these names [default: uuid,slot]' -r -f -a "uuid\t'MIG-… as nvidia-smi -L prints it'
slot\t'gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'gpu:mig, as 0:1. It can become another slice when others come and go'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l kind -d 'CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l capabilities -d 'Files of the driver in the container, by what programs need: compute, utility, video, graphics, display, ngx, compat32 (a list), all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l library-dirs -d 'Directories of the container for the driver\'s libraries: those that its loader searches without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l admin -d 'Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node: for containers that partition or watch GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l verify -d 'Look again when a container starts, by a hook outside it: are the slices still there with these numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and UUID? If not, the container does not start' -r -f -a "proc\t'What /proc tells, in less than a millisecond'
full\t'What NVML tells too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l max-cdi-version -d 'Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed take [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l engines -d 'The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed. They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l gpus -d 'Write the GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a file of their own in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l mask-params -d 'Bind a copy of the driver\'s parameters that forbids its libraries to make device nodes over /proc/driver/nvidia/params. For engines with crun alone: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one\'s value wins, so this is for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l ldcache-hook -d 'Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of these is what it is told'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -l remove -d 'Take the spec away instead, and with --gpus that of the GPUs: nobody keeps it true from now on. The driver is not asked'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand generate" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s o -l output -d 'The file to write or to check; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l format -d 'json or yaml [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l names -d 'How devices are named; each gets all of these names [default: uuid,slot]' -r -f -a "uuid\t'MIG-… as nvidia-smi -L prints it'
slot\t'gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'gpu:mig, as 0:1. It can become another slice when others come and go'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l kind -d 'CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l capabilities -d 'Files of the driver in the container, by what programs need: compute, utility, video, graphics, display, ngx, compat32 (a list), all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l library-dirs -d 'Directories of the container for the driver\'s libraries: those that its loader searches without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l admin -d 'Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node: for containers that partition or watch GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l verify -d 'Look again when a container starts, by a hook outside it: are the slices still there with these numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and UUID? If not, the container does not start' -r -f -a "proc\t'What /proc tells, in less than a millisecond'
full\t'What NVML tells too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l max-cdi-version -d 'Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed take [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l engines -d 'The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed. They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l gpus -d 'Write the GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a file of their own in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l mask-params -d 'Bind a copy of the driver\'s parameters that forbids its libraries to make device nodes over /proc/driver/nvidia/params. For engines with crun alone: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one\'s value wins, so this is for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -l ldcache-hook -d 'Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of these is what it is told'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand check" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l names -d 'How devices are named; each gets all of these names [default: uuid,slot]' -r -f -a "uuid\t'MIG-… as nvidia-smi -L prints it'
slot\t'gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'gpu:mig, as 0:1. It can become another slice when others come and go'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l kind -d 'CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l capabilities -d 'Files of the driver in the container, by what programs need: compute, utility, video, graphics, display, ngx, compat32 (a list), all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l library-dirs -d 'Directories of the container for the driver\'s libraries: those that its loader searches without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l admin -d 'Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node: for containers that partition or watch GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l verify -d 'Look again when a container starts, by a hook outside it: are the slices still there with these numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and UUID? If not, the container does not start' -r -f -a "proc\t'What /proc tells, in less than a millisecond'
full\t'What NVML tells too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l max-cdi-version -d 'Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed take [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l engines -d 'The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed. They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one\'s value wins, so this is for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -l ldcache-hook -d 'Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of these is what it is told'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand compare" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l host-root -d 'Look for engines, their configuration and the processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l engine-version -d 'Configure for this release, without asking the engine for its version' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l host-root -d 'Change files below DIR, and look for the engine there' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l dry-run -d 'Show what would change, as diff -u does, and change nothing'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l undo -d 'Take back all that configure wrote for this engine. Refused where somebody else has changed a file since'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l rootless -d 'Of the user who runs this, not of root: podman, docker'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l runtime -d 'Make mig-cdi-runtime known too, as a runtime called mig-cdi'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l hook -d 'Have mig-cdi-hook run for each container too: podman\'s precreate, CRI-O\'s create-runtime'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -l quadlet -d 'Print a systemd unit of a container with a slice, for podman\'s Quadlet, and change nothing'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand configure" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l tree -d 'Print a tree: each GPU, its GPU instances, their compute instances'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand list" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l svg -d 'Write the picture as SVG, for documents (- for standard output)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l in-use -d 'Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand map" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l names -d 'How devices are named; each gets all of these names [default: uuid,slot]' -r -f -a "uuid\t'MIG-… as nvidia-smi -L prints it'
slot\t'gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'gpu:mig, as 0:1. It can become another slice when others come and go'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l kind -d 'CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l capabilities -d 'Files of the driver in the container, by what programs need: compute, utility, video, graphics, display, ngx, compat32 (a list), all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l library-dirs -d 'Directories of the container for the driver\'s libraries: those that its loader searches without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l admin -d 'Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node: for containers that partition or watch GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l verify -d 'Look again when a container starts, by a hook outside it: are the slices still there with these numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and UUID? If not, the container does not start' -r -f -a "proc\t'What /proc tells, in less than a millisecond'
full\t'What NVML tells too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l max-cdi-version -d 'Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed take [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l engines -d 'The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed. They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one\'s value wins, so this is for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -l ldcache-hook -d 'Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of these is what it is told'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand show" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l metrics-file -d 'Write figures for Prometheus into FILE, for the textfile collector of its node exporter' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l interval -d 'Look at the driver\'s capability tree every so many milliseconds' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l resync -d 'Ask NVML anew after so many seconds although nothing seems to have changed: it alone tells that a GPU is lost' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s o -l output -d 'The file to write or to check; with - generate prints to standard output [default: /var/run/cdi/nvidia.com-mig.json]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l format -d 'json or yaml [default: by the suffix of PATH, else json]' -r -f -a "json\t'JSON'
yaml\t'YAML, with every string quoted'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l names -d 'How devices are named; each gets all of these names [default: uuid,slot]' -r -f -a "uuid\t'MIG-… as nvidia-smi -L prints it'
slot\t'gpu:profile:start, as 0:2g.20gb:4; it vanishes when the geometry changes. A compute instance smaller than its GPU instance adds its own start: 0:1c.3g.40gb:4:1'
index\t'gpu:mig, as 0:1. It can become another slice when others come and go'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l kind -d 'CDI kind of the devices [default: nvidia.com/mig]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l capabilities -d 'Files of the driver in the container, by what programs need: compute, utility, video, graphics, display, ngx, compat32 (a list), all, or none [default: compute,utility]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l library-dirs -d 'Directories of the container for the driver\'s libraries: those that its loader searches without a cache [default: /usr/lib/ARCH-linux-gnu,/usr/lib64]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l admin -d 'Offer nvidia.com/mig=config or =monitor too, each one capability over all slices of the node: for containers that partition or watch GPUs' -r -f -a "config\t'Create and destroy GPU instances and compute instances'
monitor\t'See processes, memory and events of all instances'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l verify -d 'Look again when a container starts, by a hook outside it: are the slices still there with these numbers, on the same GPU? With full NVML is asked too: with the same profile, placement and UUID? If not, the container does not start' -r -f -a "proc\t'What /proc tells, in less than a millisecond'
full\t'What NVML tells too, which takes as long as a run of mig-cdi'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l max-cdi-version -d 'Refuse to write what needs a newer CDI than this; with auto, than all engines that are installed take [default: 0.5.0]' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l engines -d 'The engines that will read the spec, as podman=4.3.1,docker=26.1, or none, instead of those installed. They are looked at when the spec needs more than CDI 0.5.0, and for --max-cdi-version auto' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l leave-nodes -d 'Leave the host\'s device nodes as they are; as root, watch makes them as mig-cdi nodes does'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l driver-events -d 'Let the driver tell of changes, where that does no harm: on GPUs whose MIG mode changes without a reset. A process then keeps NVML open, and the driver cannot be unloaded while it runs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l health -d 'Let the driver tell of critical errors (XIDs) of every GPU as well. A process then keeps NVML open on all of them, so that none can be reset while it runs'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l gpus -d 'Write the GPUs that are not in MIG mode too, as nvidia.com/gpu=INDEX and =UUID, into a file of their own in the same directory'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l mask-params -d 'Bind a copy of the driver\'s parameters that forbids its libraries to make device nodes over /proc/driver/nvidia/params. For engines with crun alone: runc starts no container with a mount in /proc'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l strict -d 'Write nothing unless every device is complete and has every name'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l cuda-env -d 'Set CUDA_VISIBLE_DEVICES too. Of two devices asked for by name the last one\'s value wins, so this is for containers with one slice, or with all'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l annotations -d 'Add GPU UUID, instance ids, profile, memory and start to each device, for readers of the spec (needs CDI 0.6.0)'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -l ldcache-hook -d 'Tell the loader of each container where the libraries are, by a hook that mounts a changed copy of its /etc/ld.so.cache: for images whose loader searches none of --library-dirs. The first of these is what it is told'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand watch" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand status" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l dry-run -d 'Print what is to be done, and change nothing'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l prune -d 'Make none: remove those that are another device\'s now, and nothing else'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand nodes" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand profiles" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s f -l file -d 'Take the layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s c -l layout -l selected-config -d 'The layout in FILE to take' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l in-use -d 'Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand plan" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s f -l file -d 'Take the layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s c -l layout -l selected-config -d 'The layout in FILE to take' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l evict -d 'Wait so long for whoever holds a slice that has to go; nobody is stopped' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l journal-dir -d 'Where it is written down what is done, until it is done' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l in-use -d 'Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l resume -d 'End what an apply that was cut off has begun: as it was wished, or else as it was'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -l no-refresh -d 'Leave the spec and the device nodes as they are'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand apply" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s f -l file -d 'Take the layouts from FILE, in the format of mig-parted (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s c -l layout -l selected-config -d 'The layout in FILE to take' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l in-use -d 'Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -l json -d 'Print JSON'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand assert" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s c -l layout -d 'The name of the layout' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -l pinned -d 'With every placement, by UUID'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand export" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand checkpoint" -s V -l version -d 'Print version'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l evict -d 'Wait so long for whoever holds a slice that has to go; nobody is stopped' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l journal-dir -d 'Where it is written down what is done, until it is done' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l host-root -d 'Look for processes below DIR' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l in-use -d 'Take a slice for used although nothing shows it, as with a pod that is about to start: its UUID or another name of it, and by whom. The UUID or index of a GPU is the GPU as a whole' -r
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l state-dir -d 'Where watch says what it did, for status' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l config -d 'Read settings from FILE instead of /etc/mig-cdi/config.toml' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l node -d 'Simulate a node: a100-80gb, dgx-a100, hgx-h100, b200, a30, rtx-pro-6000, or a description in FILE (- for standard input)' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l source -d 'Whom to ask' -r -f -a "nvml\t'NVML and /proc, which must agree'
proc\t'/proc alone: no UUIDs, no profiles; devices are named by GPU minor, GPU instance and compute instance'"
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l driver-root -d 'Root of the driver\'s libraries, for a driver that lives in a container [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l library-search-path -d 'Look for the driver\'s libraries in DIR, below the driver root, before all other places' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l dev-root -d 'Directory that holds dev [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l proc-root -d 'Directory that holds proc [default: /]' -r -F
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -l no-refresh -d 'Leave the spec and the device nodes as they are'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s v -l verbose -d 'Say more of what is found and done, on standard error'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mig-cdi -n "__fish_mig_cdi_using_subcommand restore" -s V -l version -d 'Print version'
