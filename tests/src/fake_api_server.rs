//! Fake API server with one node and Events, which fails on request. It answers as kube-apiserver does, as far as the
//! plugin needs it.

use serde_json::{Map, Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time limit that fits the slowest machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Fake API server. Its threads end with the process.
#[derive(Debug, Clone)]
pub struct FakeApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    name: String,
    /// Metadata of the node by version.
    versions: Vec<(u64, Value)>,
    /// Last version that is no longer available.
    newest_expired_version: u64,
    requests: Vec<ApiRequest>,
    /// Status codes of the next answers, by kind.
    faults: Vec<(String, u16)>,
    /// Counts how often all watches were closed.
    closed_watches: u64,
}

/// Received request.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiRequest {
    /// `WATCH`, `PATCH`, `POST` or another method.
    pub kind: String,
    /// Path and query.
    pub target: String,
    /// The header `Accept`.
    pub accept: String,
    /// The header `Content-Type`.
    pub content_type: String,
    /// JSON, or null.
    pub body: Value,
}

impl FakeApiServer {
    /// Starts a server that has a node of this name.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(node: &str) -> FakeApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let metadata = json!({"name": node, "uid": "0f1e", "labels": {"kubernetes.io/os": "linux"},
            "annotations": {}, "managedFields": [{"manager": "kubelet", "operation": "Update"}]});
        let state =
            State { name: node.to_owned(), versions: vec![(100, metadata)], ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let server = FakeApiServer { address, shared };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                // A client that disconnects is no fault of the server.
                std::thread::spawn(move || own.serve(&stream).is_ok());
            }
        });
        server
    }

    /// Writes a kubeconfig for this server.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn kubeconfig(&self, dir: &Path) -> PathBuf {
        let path = dir.join("kubeconfig");
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
        fs::write(&path, text.to_string()).expect("write the kubeconfig");
        path
    }

    /// Returns all requests of a kind, in order.
    #[must_use]
    pub fn requests(&self, kind: &str) -> Vec<ApiRequest> {
        let state = self.state();
        state.requests.iter().filter(|request| request.kind == kind).cloned().collect()
    }

    /// Returns a label of the node.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<String> {
        self.metadata()["labels"][key].as_str().map(str::to_owned)
    }

    /// Returns an annotation of the node.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.metadata()["annotations"][key].as_str().map(str::to_owned)
    }

    /// Returns all values that a label has had in order; empty while it did not exist.
    #[must_use]
    pub fn history(&self, key: &str) -> Vec<String> {
        let state = self.state();
        let value = |(_, metadata): &(u64, Value)| {
            metadata["labels"][key].as_str().unwrap_or("").to_owned()
        };
        let mut values: Vec<_> = state.versions.iter().map(value).collect();
        values.dedup();
        values
    }

    fn metadata(&self) -> Value {
        self.state().versions.last().map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Sets or removes a label of the node, as another client.
    pub fn set_label(&self, key: &str, value: Option<&str>) {
        self.change(&json!({"metadata": {"labels": {key: value}}}));
    }

    /// Answers the next requests of a kind with these codes.
    pub fn fail(&self, kind: &str, codes: &[u16]) {
        let mut state = self.state();
        state.faults.extend(codes.iter().map(|code| (kind.to_owned(), *code)));
    }

    /// Ends all watches, as when the server goes down.
    pub fn close_watches(&self) {
        self.state().closed_watches += 1;
        self.shared.changed.notify_all();
    }

    /// Makes versions before the newest unavailable.
    pub fn expire_versions(&self) {
        let mut state = self.state();
        state.newest_expired_version =
            state.versions.last().map(|(version, _)| *version - 1).unwrap_or_default();
    }

    /// Waits until a condition holds.
    ///
    /// # Panics
    /// When it does not hold within the time limit.
    pub async fn until(&self, what: &str, is: impl Fn(&FakeApiServer) -> bool) {
        let end = Instant::now() + TIMEOUT;
        while !is(self) {
            let requests = || self.state().requests.clone();
            assert!(Instant::now() < end, "{what}: {} {:#?}", self.metadata(), requests());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a merge patch, and returns the new metadata. A patch that changes nothing makes no version.
    fn change(&self, patch: &Value) -> Value {
        let mut state = self.state();
        let (version, before) = state.versions.last().cloned().expect("there is a node");
        let mut after = before.clone();
        merge(&mut after, &patch["metadata"]);
        if after != before {
            // Resource versions count changes of the whole cluster.
            state.versions.push((version + 7, after.clone()));
        }
        let version = state.versions.last().expect("there is a node").0;
        drop(state);
        self.shared.changed.notify_all();
        versioned(&after, version)
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read(&mut reader)? {
            let (kind, target) = (request.kind.clone(), request.target.clone());
            let mut state = self.state();
            state.requests.push(request.clone());
            let fault = state.faults.iter().position(|(of, _)| *of == kind);
            let fault = fault.map(|i| state.faults.remove(i).1);
            let node = format!("/api/v1/nodes/{}?", state.name);
            drop(state);
            let mut out = stream;
            match (fault, kind.as_str()) {
                (Some(code), _) => answer(out, code, &status(code))?,
                // The connection stays open after a watch that ends as the API has it: a client may be about to use it again.
                (None, "WATCH") => match self.watch(&mut out, &target)? {
                    WatchEnd::Complete => {}
                    WatchEnd::Failed => return Ok(()),
                },
                (None, "PATCH") if target.starts_with(&node) => {
                    let metadata = self.change(&request.body);
                    answer(out, 200, &object(&metadata))?;
                }
                (None, "POST") if target.starts_with("/api/v1/namespaces/default/events") => {
                    answer(out, 201, &request.body)?;
                }
                _ => answer(out, 404, &status(404))?,
            }
        }
        Ok(())
    }

    fn watch(&self, out: &mut &TcpStream, target: &str) -> std::io::Result<WatchEnd> {
        let value = |key: &str| {
            let query = target.split_once('?').unwrap_or_default().1;
            query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")))
        };
        let mut version: u64 = value("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
        // 290 s are the default of the plugin's client (kube, WatchParams).
        let seconds = value("timeoutSeconds").and_then(|v| v.parse().ok()).unwrap_or(290);
        let end = Instant::now() + Duration::from_secs(seconds);
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")?;
        write!(out, "Transfer-Encoding: chunked\r\n\r\n")?;
        let mut state = self.state();
        let closed_watches = state.closed_watches;
        if value("fieldSelector") != Some(&format!("metadata.name%3D{}", state.name)) {
            chunk(out, &json!({"type": "ERROR", "object": status(400)}))?;
            return Ok(WatchEnd::Failed);
        }
        let mut kind = if version == 0 { "ADDED" } else { "MODIFIED" };
        while state.closed_watches == closed_watches {
            if version != 0 && version < state.newest_expired_version {
                chunk(out, &json!({"type": "ERROR", "object": status(410)}))?;
                return Ok(WatchEnd::Failed);
            }
            let mut newer = state.versions.clone();
            match version {
                0 => drop(newer.drain(..newer.len() - 1)),
                _ => newer.retain(|(of, _)| *of > version),
            }
            for (of, metadata) in newer {
                let object = object(&versioned(&metadata, of));
                chunk(out, &json!({"type": kind, "object": object}))?;
                (version, kind) = (of, "MODIFIED");
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        write!(out, "0\r\n\r\n")?;
        Ok(WatchEnd::Complete)
    }
}

/// End of a watch.
enum WatchEnd {
    /// The answer is complete.
    Complete,
    /// The answer ends with an error, and the connection with it.
    Failed,
}

/// Applies a JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return patch.clone_into(target) };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let target = target.as_object_mut().expect("it was made one");
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(key)),
            value => merge(target.entry(key.clone()).or_insert(Value::Null), value),
        }
    }
}

fn versioned(metadata: &Value, version: u64) -> Value {
    let mut metadata = metadata.clone();
    metadata["resourceVersion"] = json!(version.to_string());
    metadata
}

fn object(metadata: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": format!("injected failure {code}"), "reason": "Test"})
}

fn chunk(out: &mut &TcpStream, line: &Value) -> std::io::Result<()> {
    let line = format!("{line}\n");
    write!(out, "{:x}\r\n{line}\r\n", line.len())
}

fn answer(mut out: &TcpStream, code: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    out.write_all((head + &body).as_bytes())
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<ApiRequest>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut accept, mut content_type, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((key, value)) = line.trim().split_once(": ") else { break };
        match key.to_ascii_lowercase().as_str() {
            "accept" => value.clone_into(&mut accept),
            "content-type" => value.clone_into(&mut content_type),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let kind = if target.contains("watch=true") { "WATCH".to_owned() } else { method };
    Ok(Some(ApiRequest { kind, target, accept, content_type, body }))
}
