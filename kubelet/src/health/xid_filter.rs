//! The choice of XIDs that make a device unhealthy, by the variables of NVIDIA's device plugin.

use std::collections::BTreeSet;

/// XIDs of errors that a program causes and that leave the GPU usable: application errors by NVIDIA's XID catalogue
/// (docs.nvidia.com/deploy/xid-errors), and what NVIDIA's device plugin ignores (`internal/rm/health.go`).
pub const IGNORED: [u64; 6] = [
    13,  // graphics engine exception: an instruction of the program
    31,  // memory page fault: an address of the program
    43,  // the GPU stopped processing: the program failed
    45,  // preemptive cleanup: the program was ended
    68,  // exception of the video processor
    109, // timeout of a context switch
];

/// Filter of XIDs: those that pass make a device unhealthy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct XidFilter {
    disabled: XidSet,
    enabled: XidSet,
}

/// Filter that was parsed, with what was ignored in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedXidFilter {
    /// The filter.
    pub filter: XidFilter,
    /// One line about each item that is no XID.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct XidSet {
    has_all: bool,
    xids: BTreeSet<u64>,
}

impl XidSet {
    fn has(&self, xid: u64) -> bool {
        self.has_all || self.xids.contains(&xid)
    }
}

impl XidFilter {
    /// Parses the values of `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`: XIDs with commas between, or
    /// `all`, which may be written `xids`. An enabled XID passes, whether it is disabled or ignored too.
    ///
    /// An item that is neither is ignored, with a warning.
    #[must_use]
    pub fn parse(disable: Option<&str>, enable: Option<&str>) -> ParsedXidFilter {
        let mut warnings = Vec::new();
        let mut parse = |variable: &str, value: Option<&str>| {
            let mut set = XidSet::default();
            for item in value.unwrap_or_default().split(',').map(str::trim) {
                match item.to_ascii_lowercase().as_str() {
                    "" => {}
                    "all" | "xids" => set.has_all = true,
                    item => match item.parse::<u64>() {
                        Ok(xid) => set.xids.extend([xid]),
                        Err(_) => warnings.push(format!(
                            "{variable}: {item:?} is not an xid, all or xids; it is ignored"
                        )),
                    },
                }
            }
            set
        };
        let disabled = parse("DP_DISABLE_HEALTHCHECKS", disable);
        let enabled = parse("DP_ENABLE_HEALTHCHECKS", enable);
        ParsedXidFilter { filter: XidFilter { disabled, enabled }, warnings }
    }

    /// Returns true when an error with this XID makes a device unhealthy.
    #[must_use]
    pub fn is_critical(&self, xid: u64) -> bool {
        self.enabled.has(xid) || !(self.disabled.has(xid) || IGNORED.contains(&xid))
    }

    /// Returns false when no XID is critical. Then the driver's events need no listener, which would keep every GPU
    /// open, and a GPU that is open cannot be reset.
    #[must_use]
    pub fn passes_any(&self) -> bool {
        !self.disabled.has_all || self.enabled.has_all || !self.enabled.xids.is_empty()
    }
}
