//! Long tests: faults at every call, all transitions of layouts, races, and random changes of a node.

mod hook_races;
mod kubelet_scale;
mod layout_transitions;
mod partition_faults;
mod watch_soak;
