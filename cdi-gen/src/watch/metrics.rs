//! Metrics in the text format of Prometheus, for the textfile collector of its node exporter.

use super::status::{Status, WatchState};
use crate::{Error, Result};
use mig_cdi_sys::TrustedDir;
use std::{fmt::Write, path::Path};

/// Text of all metrics. Each has its `HELP` and `TYPE` lines before its values, as the format wants it.
pub(crate) fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, values: &[(String, f64)]| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# HELP mig_cdi_{name} {help}\n# TYPE mig_cdi_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(text, "mig_cdi_{name}{labels} {value}");
        }
    };
    let one = |value: f64| [(String::new(), value)];
    let count = |value: u64| one(value as f64);
    let profiles: Vec<_> = status
        .profiles()
        .into_iter()
        .map(|(profile, count)| (format!("{{profile=\"{profile}\"}}"), count as f64))
        .collect();
    metric("slices", "gauge", "MIG devices of this node.", &profiles);
    let omitted = "Things on this node that could not be confirmed and are omitted from the spec.";
    metric("incomplete", "gauge", omitted, &one(status.node.omitted as f64));
    let stale = "1 while the spec is that of an earlier refresh, since the last one failed.";
    let failing = f64::from(u8::from(status.state == WatchState::Failing));
    metric("spec_stale", "gauge", stale, &one(failing));
    metric("refreshes_total", "counter", "Refreshes of the specs.", &count(status.refreshes));
    let changes = "Refreshes that changed a spec.";
    metric("spec_changes_total", "counter", changes, &count(status.changes));
    metric("refresh_failures_total", "counter", "Refreshes that failed.", &count(status.failures));
    metric("refresh_seconds", "gauge", "Duration of the last refresh.", &one(status.seconds));
    let times = [
        ("last_refresh", "the last refresh", status.refreshed),
        ("last_success", "the last refresh that did not fail", status.succeeded),
        ("last_change", "the last refresh that changed a spec", status.changed),
    ];
    for (name, what, time) in times {
        let name = format!("{name}_timestamp_seconds");
        // 0 for what has not happened yet: the format has no null.
        metric(&name, "gauge", &format!("Time of {what}."), &one(time.unwrap_or(0.0)));
    }
    text
}

/// Writes the metrics into a file, whole or not at all: the collector may read it at any time.
pub(crate) fn write(status: &Status, path: &Path) -> Result<()> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (Some(dir), Some(name)) = (path.parent(), name) else {
        return Err(Error::usage("write", path.display()).because("not the name of a file"));
    };
    let dir = if dir == Path::new("") { Path::new(".") } else { dir };
    TrustedDir::open_or_make(dir)?.replace(name, text(status).as_bytes())?;
    Ok(())
}
