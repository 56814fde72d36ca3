//! gRPC over a Unix socket.

use hyper_util::rt::TokioIo;
use std::{error::Error, path::Path};
use tokio::net::UnixStream;
use tonic::{
    codegen::http::Uri,
    transport::{self, Channel, Endpoint},
};
use tower::service_fn;

/// Connects to the service at a socket.
pub(crate) async fn connect(socket: &Path) -> Result<Channel, transport::Error> {
    let path = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    // The connector ignores the URI. It becomes the `:authority` of the requests, for which gRPC on a Unix socket
    // uses `localhost` (kubernetes#112597).
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await
}

/// Message of the innermost source of an error. tonic's own is only "transport error"; the answer of the kernel
/// is behind it.
pub(crate) fn innermost_cause(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
