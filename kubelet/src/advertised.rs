//! The devices that the plugin advertises at one moment, and whether each may be allocated.

use crate::strategy::{AllocatableDevice, Resource};
use std::collections::BTreeMap;

/// A device that is advertised to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedDevice {
    /// The device.
    pub device: AllocatableDevice,
    /// Reason why it may not be allocated; `None` when it is healthy.
    pub unhealthy: Option<String>,
}

/// Every resource that was advertised since the program began, with its devices.
///
/// A resource without devices stays, with an empty list. If its `ListAndWatch` stream ended instead, the kubelet would
/// keep its last devices in the node's capacity for another five minutes (k8s.io/kubernetes,
/// `pkg/kubelet/cm/devicemanager`: `markResourceUnhealthy`, `endpointStopGracePeriod`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdvertisedDevices(pub BTreeMap<Resource, Vec<AdvertisedDevice>>);

impl AdvertisedDevices {
    /// Devices of a resource; none when the resource is unknown.
    #[must_use]
    pub fn of(&self, resource: &Resource) -> &[AdvertisedDevice] {
        self.0.get(resource).map_or(&[], Vec::as_slice)
    }

    /// Devices of all resources.
    pub fn all(&self) -> impl Iterator<Item = &AdvertisedDevice> {
        self.0.values().flatten()
    }
}
