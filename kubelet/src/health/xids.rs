//! Which errors count, in the words that users of NVIDIA's device plugin know.

use std::collections::BTreeSet;

/// Errors that a program causes, and that leave the GPU as good as it was. By NVIDIA's list of XIDs.
pub const IGNORED: [u64; 6] = [
    13,  // graphics engine exception: an instruction of the program
    31,  // memory page fault: an address of the program
    43,  // the GPU stopped processing: the program failed
    45,  // preemptive cleanup: the program was ended
    68,  // exception of the video processor
    109, // timeout of a context switch
];

/// Which XIDs make a device unhealthy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Xids {
    disabled: Set,
    enabled: Set,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Set {
    all: bool,
    some: BTreeSet<u64>,
}

impl Set {
    fn has(&self, xid: u64) -> bool {
        self.all || self.some.contains(&xid)
    }
}

impl Xids {
    /// By the values of `DP_DISABLE_HEALTHCHECKS` and `DP_ENABLE_HEALTHCHECKS`: XIDs with commas between,
    /// or `all`, also written `xids`. What is enabled counts, whatever is disabled or ignored. A word that is
    /// neither is passed over; each gives a line that says so.
    #[must_use]
    pub fn parse(disable: Option<&str>, enable: Option<&str>) -> (Xids, Vec<String>) {
        let mut complaints = Vec::new();
        let mut set = |variable: &str, value: Option<&str>| {
            let mut set = Set::default();
            for word in value.unwrap_or_default().split(',').map(str::trim) {
                match word.to_ascii_lowercase().as_str() {
                    "" => {}
                    "all" | "xids" => set.all = true,
                    word => match word.parse::<u64>() {
                        Ok(xid) => set.some.extend([xid]),
                        Err(_) => complaints.push(format!(
                            "{variable}: {word:?} is no xid, all or xids; it is passed over"
                        )),
                    },
                }
            }
            set
        };
        let disabled = set("DP_DISABLE_HEALTHCHECKS", disable);
        let enabled = set("DP_ENABLE_HEALTHCHECKS", enable);
        (Xids { disabled, enabled }, complaints)
    }

    /// Whether a device with this error is unhealthy.
    #[must_use]
    pub fn counts(&self, xid: u64) -> bool {
        self.enabled.has(xid) || !(self.disabled.has(xid) || IGNORED.contains(&xid))
    }

    /// False when no error counts, so that none has to be listened to.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.disabled.all || self.enabled.all || !self.enabled.some.is_empty()
    }
}
