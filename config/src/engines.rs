//! Files for engines, as they are shipped; `mig-cdi configure` writes the same.

/// A file of hooks.d for podman.
pub const PRECREATE: &str = include_str!("../hooks.d/mig-cdi-precreate.json");
/// A file of hooks.d for CRI-O, and for podman beside it.
pub const CREATE_RUNTIME: &str = include_str!("../hooks.d/mig-cdi-create-runtime.json");
/// A container of systemd with a slice.
pub const QUADLET: &str = include_str!("../engines/mig-cdi-example.container");

/// A file of hooks.d that names the hook at this path, which has no quotation marks in it.
#[must_use]
pub fn with_program(hook: &str, program: &str) -> String {
    hook.replace("/usr/bin/mig-cdi-hook", program)
}
