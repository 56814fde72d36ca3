//! Generates clients and servers of the kubelet's device plugin API from its documented methods. The messages are
//! written by hand in `src/api.rs`, so that the build needs no protoc.

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
    // The package is part of the path of each call, as `/v1beta1.Registration/Register`.
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
