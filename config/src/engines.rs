//! Configuration files for container engines, as they are shipped; `mig-cdi configure` writes the same.

/// Hook file for podman's `hooks.d`: the subcommand `precreate`.
pub const PRECREATE: &str = include_str!("../hooks.d/mig-cdi-precreate.json");
/// Hook file for the `hooks.d` of CRI-O, which podman can read too: the subcommand `create-runtime`.
pub const CREATE_RUNTIME: &str = include_str!("../hooks.d/mig-cdi-create-runtime.json");
/// Example of a systemd Quadlet container with a slice.
pub const QUADLET: &str = include_str!("../engines/mig-cdi-example.container");

/// Returns a hook file with this path of the program, which must not contain quotation marks.
#[must_use]
pub fn with_program(hook: &str, program: &str) -> String {
    hook.replace("/usr/bin/mig-cdi-hook", program)
}
