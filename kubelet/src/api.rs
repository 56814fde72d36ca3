//! The device plugin interface of the kubelet, version v1beta1: its messages by their documented fields
//! (kubernetes.io, "Device Plugins"; k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1). The services are made of
//! them by `build.rs`.

use std::collections::HashMap;

/// The version that both sides have to speak.
pub const VERSION: &str = "v1beta1";
/// A device that may be given to a pod.
pub const HEALTHY: &str = "Healthy";
/// One that is there and may not.
pub const UNHEALTHY: &str = "Unhealthy";

/// Both sides of both services.
#[allow(missing_docs, clippy::pedantic, clippy::disallowed_methods, reason = "made by tonic-build")]
pub mod service {
    /// How a plugin makes itself known.
    pub mod registration {
        include!(concat!(env!("OUT_DIR"), "/v1beta1.Registration.rs"));
    }
    /// What a plugin is asked.
    pub mod device_plugin {
        include!(concat!(env!("OUT_DIR"), "/v1beta1.DevicePlugin.rs"));
    }
}

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// How a plugin makes itself known.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterRequest {
    /// [`VERSION`].
    #[prost(string, tag = "1")]
    pub version: String,
    /// Name of the plugin's socket in the kubelet's directory.
    #[prost(string, tag = "2")]
    pub endpoint: String,
    /// `vendor/name`.
    #[prost(string, tag = "3")]
    pub resource_name: String,
    /// What it can do besides.
    #[prost(message, optional, tag = "4")]
    pub options: Option<DevicePluginOptions>,
}

/// What a plugin can do besides.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DevicePluginOptions {
    /// It wants to be told before a container starts.
    #[prost(bool, tag = "1")]
    pub pre_start_required: bool,
    /// It can say which devices go well together.
    #[prost(bool, tag = "2")]
    pub get_preferred_allocation_available: bool,
}

/// All devices of a resource.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ListAndWatchResponse {
    /// Each once.
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<Device>,
}

/// A device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Device {
    /// Unique within its resource.
    #[prost(string, tag = "1")]
    pub id: String,
    /// [`HEALTHY`] or [`UNHEALTHY`].
    #[prost(string, tag = "2")]
    pub health: String,
    /// Where in the machine it is.
    #[prost(message, optional, tag = "3")]
    pub topology: Option<TopologyInfo>,
}

/// Where in the machine a device is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TopologyInfo {
    /// The memory domains that are near.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<NumaNode>,
}

/// A memory domain.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NumaNode {
    /// Its number in the kernel.
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// Which of the free devices to take, for each container.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationRequest {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerPreferredAllocationRequest>,
}

/// Which of the free devices to take.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationRequest {
    /// The free ones.
    #[prost(string, repeated, tag = "1")]
    pub available_device_ids: Vec<String>,
    /// Those that are taken in any case.
    #[prost(string, repeated, tag = "2")]
    pub must_include_device_ids: Vec<String>,
    /// How many in all.
    #[prost(int32, tag = "3")]
    pub allocation_size: i32,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreferredAllocationResponse {
    /// In the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerPreferredAllocationResponse>,
}

/// Devices that go well together.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerPreferredAllocationResponse {
    /// As many as were asked for, if there are.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// What containers are to be given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateRequest {
    /// In order.
    #[prost(message, repeated, tag = "1")]
    pub container_requests: Vec<ContainerAllocateRequest>,
}

/// What a container is to be given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateRequest {
    /// Devices of this resource.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AllocateResponse {
    /// In the order of the request.
    #[prost(message, repeated, tag = "1")]
    pub container_responses: Vec<ContainerAllocateResponse>,
}

/// What the engine is told for a container. Its mounts (2) and device nodes (3) are never set: the spec has
/// them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAllocateResponse {
    /// Variables.
    #[prost(map = "string, string", tag = "1")]
    pub envs: HashMap<String, String>,
    /// Annotations.
    #[prost(map = "string, string", tag = "4")]
    pub annotations: HashMap<String, String>,
    /// CDI devices; kubelets before 1.28 pass over them.
    #[prost(message, repeated, tag = "5")]
    pub cdi_devices: Vec<CdiDevice>,
}

/// A CDI device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CdiDevice {
    /// `vendor/class=name`.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A container is about to start.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerRequest {
    /// Its devices of this resource.
    #[prost(string, repeated, tag = "1")]
    pub device_ids: Vec<String>,
}

/// Nothing to say.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct PreStartContainerResponse {}
