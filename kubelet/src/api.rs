//! Messages of the kubelet's device plugin API, version v1beta1, by their documented fields (kubernetes.io,
//! "Device Plugins"; `k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto`). `build.rs` makes the services.

use std::collections::HashMap;

/// Version of the API. The kubelet refuses a plugin that registers with another one.
pub const VERSION: &str = "v1beta1";
/// Health of a device that may be allocated.
pub const HEALTHY: &str = "Healthy";
/// Health of a device that exists and may not be allocated.
pub const UNHEALTHY: &str = "Unhealthy";

/// Clients and servers of the two services.
#[allow(missing_docs, clippy::pedantic, clippy::disallowed_methods, reason = "made by tonic-build")]
pub mod service {
    /// Service of the kubelet: a plugin registers a resource.
    pub mod registration {
        include!(concat!(env!("OUT_DIR"), "/v1beta1.Registration.rs"));
    }
    /// Service of the plugin: the kubelet lists and allocates devices.
    pub mod device_plugin {
        include!(concat!(env!("OUT_DIR"), "/v1beta1.DevicePlugin.rs"));
    }
}

/// Empty message.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// Registration of one resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterRequest {
    /// Version of the API: [`VERSION`].
    #[prost(string, tag = "1")]
    pub version: String,
    /// File name of the plugin's socket in the kubelet's directory.
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// Name of the resource, as `nvidia.com/mig-1g.10gb`.
    #[prost(string, tag = "3")]
    pub resource_name: String,
    /// Optional calls that the plugin answers.
    #[prost(message, optional, tag = "4")]
    pub options: Option<DevicePluginOptions>,
}

/// Optional calls that a plugin answers.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DevicePluginOptions {
    /// True when the kubelet has to call `PreStartContainer` before each start of a container.
    #[prost(bool, tag = "1")]
    pub pre_start_required: bool,
    /// True when the plugin answers `GetPreferredAllocation`.
    #[prost(bool, tag = "2")]
    pub get_preferred_allocation_available: bool,
}

/// List of all devices of a resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAndWatchResponse {
    /// Devices, each once.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<PluginDevice>,
}

/// Device of a resource (`Device` in the API).
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginDevice {
    /// Id, unique within its resource.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Health: [`HEALTHY`] or [`UNHEALTHY`].
    #[prost(string, tag = "2")]
    pub health: String,
    /// Location in the machine, for the kubelet's topology manager.
    #[prost(message, optional, tag = "3")]
    pub topology: Option<TopologyInfo>,
}

/// Location of a device in the machine.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopologyInfo {
    /// NUMA nodes that the device is attached to.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NumaNode>,
}

/// NUMA node.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NumaNode {
    /// Number of the node in `/sys/devices/system/node`.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// Call `GetPreferredAllocation`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationRequest {
    /// Requests, one for each container.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerPreferredAllocationRequest>,
}

/// Free devices of which some are preferred for one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationRequest {
    /// Ids of the free devices.
    #[prost(string, repeated, tag = "1")]
    pub available_device_ids: Vec<String>,
    /// Ids of devices that the answer has to include.
    #[prost(string, repeated, tag = "2")]
    pub must_include_device_ids: Vec<String>,
    /// Number of devices that the container gets.
    #[prost(int32, tag = "3")]
    pub allocation_size: i32,
}

/// Answer to `GetPreferredAllocation`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationResponse {
    /// Answers, in the order of the requests.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerPreferredAllocationResponse>,
}

/// Devices that are preferred for one container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationResponse {
    /// Ids of the devices: as many as requested, or all that are free.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// Call Allocate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateRequest {
    /// Requests, one for each container.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerAllocateRequest>,
}

/// Devices that one container gets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateRequest {
    /// Ids of the devices.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// Answer to Allocate.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateResponse {
    /// Answers, in the order of the requests.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerAllocateResponse>,
}

/// Settings of one container that its devices need. Mounts (tag 2) and device nodes (tag 3) are never set: the CDI
/// spec has them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateResponse {
    /// Environment variables.
    #[prost(map = "string, string", tag = "1")]
    pub envs: HashMap<String, String>,
    /// Annotations of the container.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: HashMap<String, String>,
    /// CDI devices. Kubelets before 1.28 ignore the field (KEP-4009).
    #[prost(message, repeated, tag = "5")]
    pub cdi_devices: Vec<CdiDevice>,
}

/// CDI device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CdiDevice {
    /// Qualified name, as `nvidia.com/mig=MIG-…`.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// Call `PreStartContainer`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerRequest {
    /// Ids of the container's devices.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// Answer to `PreStartContainer`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerResponse {}
