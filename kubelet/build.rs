//! The services of the kubelet that are spoken here, from their documented methods. Their messages are in
//! `src/api.rs`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str, input: &str, output: &str| {
        let message = |name: &str| format!("crate::api::{name}");
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type(message(input))
            .output_type(message(output))
            .codec_path("tonic_prost::ProstCodec")
    };
    let unary = |name: &str, route: &str, input: &str, output: &str| {
        method(name, route, input, output).build()
    };
    let service = |name: &str| Service::builder().name(name).package("v1beta1");
    let registration =
        service("Registration").method(unary("register", "Register", "RegisterRequest", "Empty"));
    let plugin = service("DevicePlugin")
        .method(unary(
            "get_device_plugin_options",
            "GetDevicePluginOptions",
            "Empty",
            "DevicePluginOptions",
        ))
        .method(
            method("list_and_watch", "ListAndWatch", "Empty", "ListAndWatchResponse")
                .server_streaming()
                .build(),
        )
        .method(unary(
            "get_preferred_allocation",
            "GetPreferredAllocation",
            "PreferredAllocationRequest",
            "PreferredAllocationResponse",
        ))
        .method(unary("allocate", "Allocate", "AllocateRequest", "AllocateResponse"))
        .method(unary(
            "pre_start_container",
            "PreStartContainer",
            "PreStartContainerRequest",
            "PreStartContainerResponse",
        ));
    Builder::new().compile(&[registration.build(), plugin.build()]);
}
