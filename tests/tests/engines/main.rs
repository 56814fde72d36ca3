//! Tests that need other engines: containerd, Docker, podman 5, rootless podman.

mod containerd_settings;
mod docker_settings;
mod docs_engines;
mod hook_engines;
mod hook_holders;
mod hook_rootless;
mod podman_settings;
mod watch_engines;
