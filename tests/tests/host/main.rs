//! Tests that need root: device nodes, mounts, namespaces, cgroups, and Debian's podman, runc and crun.

mod check_and_compare;
mod conformance;
mod containers;
mod device_cgroup;
mod doctor;
mod driver_files;
mod hook_attacks;
mod hook_verify;
mod kubelet_repartition;
mod kubernetes_chart;
mod ldcache_hook;
mod nodes;
mod partition;
mod podman;
mod real_nvml;
