//! The plugin in the cluster: labels and Events, with an API server that fails on request.

use mig_cdi_kubelet::cluster::{self, Cluster, EventType, RetryDelays, Timing};
use mig_cdi_tests::{
    fake_api_server::FakeApiServer,
    fake_cluster::{FakeCluster, NODE, SOON, TIMEOUT},
};
use serde_json::json;
use std::{collections::BTreeMap, fs, time::Duration};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn only_labels_that_differ_are_written() {
    let fake = FakeCluster::new();
    let cluster = fake.connect();
    let wanted = labels(&[
        ("nvidia.com/gpu.count", "8"),
        ("nvidia.com/mig.strategy", "mixed"),
        ("nvidia.com/gpu.product", "not a value"),
    ]);
    cluster.set_labels(&wanted);
    cluster.set_labels(&wanted);
    fake.flush(&cluster, "first").await;
    let patches = fake.api.requests("PATCH");
    assert_eq!(patches.len(), 1, "{patches:#?}");
    assert_eq!(patches[0].target, "/api/v1/nodes/node-1?&fieldManager=mig-cdi-kubelet");
    assert_eq!(patches[0].content_type, "application/merge-patch+json");
    assert!(patches[0].accept.contains("as=PartialObjectMetadata"), "{}", patches[0].accept);
    let expected = json!({"metadata": {
        "labels": {"nvidia.com/gpu.count": "8", "nvidia.com/mig.strategy": "mixed"},
        "annotations":
            {"nvidia.com/mig-cdi.labels": "nvidia.com/gpu.count,nvidia.com/mig.strategy"}}});
    assert_eq!(patches[0].body, expected);
    assert_eq!(fake.logged("not a value"), 1);
    // Labels of others are not changed.
    assert_eq!(fake.api.label("kubernetes.io/os").as_deref(), Some("linux"));

    // A start on an unchanged node writes nothing.
    drop(cluster);
    let cluster = fake.connect();
    cluster.set_labels(&wanted);
    fake.flush(&cluster, "second").await;
    assert_eq!(fake.api.requests("PATCH").len(), 1);

    // A plugin with fewer labels removes those of the first one.
    drop(cluster);
    let cluster = fake.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "7")]));
    fake.flush(&cluster, "third").await;
    let expected = json!({"metadata": {
        "labels": {"nvidia.com/gpu.count": "7", "nvidia.com/mig.strategy": null},
        "annotations": {"nvidia.com/mig-cdi.labels": "nvidia.com/gpu.count"}}});
    assert_eq!(
        fake.api.requests("PATCH")[1..].iter().map(|p| &p.body).collect::<Vec<_>>(),
        [&expected]
    );
}

#[tokio::test]
async fn an_overwritten_label_is_restored() {
    let fake = FakeCluster::new();
    let cluster = fake.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    fake.flush(&cluster, "first").await;
    fake.api.set_label("nvidia.com/gpu.count", Some("9"));
    fake.api.until("the label is restored", |api| api.requests("PATCH").len() == 2).await;
    fake.api
        .until("the label is restored", |api| {
            api.label("nvidia.com/gpu.count").as_deref() == Some("8")
        })
        .await;
}

#[tokio::test]
async fn a_failed_write_is_logged_once_and_retried() {
    let fake = FakeCluster::new();
    fake.api.fail("PATCH", &[500, 500, 500, 409, 409, 429, 403]);
    let cluster = fake.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    assert!(cluster.wait_written(TIMEOUT).await);
    assert_eq!(fake.api.requests("PATCH").len(), 8);
    for code in [500, 409, 429, 403] {
        assert_eq!(fake.logged(&format!("injected failure {code}")), 1, "{:?}", fake.lines);
    }
    assert_eq!(fake.logged("write labels of node node-1: "), 4);
}

#[tokio::test]
async fn the_watch_resumes_at_its_last_version() {
    let fake = FakeCluster::new();
    let cluster = fake.connect();
    let mut desired = cluster.layout_request();
    let mut asks = async |config: &str| {
        let asked = desired
            .wait_for(|now| now.as_ref().is_some_and(|now| now.config.as_deref() == Some(config)));
        assert!(tokio::time::timeout(TIMEOUT, asked).await.is_ok(), "{config}");
    };
    let from = |api: &FakeApiServer| -> Vec<u64> {
        let version = |target: &str| target.rsplit_once("resourceVersion=")?.1.parse().ok();
        let watches = api.requests("WATCH");
        watches.iter().map(|request| version(&request.target).unwrap()).collect()
    };
    fake.api.set_label(cluster::CONFIG, Some("a"));
    asks("a").await;
    // The server goes down and comes back: no version is missed, and none is reported twice.
    fake.api.fail("WATCH", &[500, 503]);
    fake.api.close_watches();
    fake.api.set_label(cluster::CONFIG, Some("b"));
    asks("b").await;
    // The fake's versions begin at 100 and grow by 7, as those of a cluster with other objects do.
    assert_eq!(from(&fake.api), [0, 107, 107, 107]);
    // The server no longer has the version (410 Gone): as an answer, and as an event.
    fake.api.fail("WATCH", &[410]);
    fake.api.close_watches();
    fake.api.set_label(cluster::CONFIG, Some("c"));
    asks("c").await;
    assert_eq!(from(&fake.api)[4..], [114, 0]);
    fake.api.fail("WATCH", &[500]);
    fake.api.close_watches();
    for config in ["d", "e", "f"] {
        fake.api.set_label(cluster::CONFIG, Some(config));
    }
    fake.api.expire_versions();
    asks("f").await;
    let last = from(&fake.api).last().copied();
    assert!(last == Some(0) || last == Some(121), "{:?}", from(&fake.api));
    // No list was requested, and no other node.
    for request in fake.api.requests("WATCH") {
        assert!(request.target.contains("fieldSelector=metadata.name%3Dnode-1"), "{request:?}");
        assert!(request.target.contains("allowWatchBookmarks=true"), "{request:?}");
        assert!(request.accept.contains("as=PartialObjectMetadata"), "{request:?}");
    }
    assert!(fake.api.requests("GET").is_empty());
    assert_eq!(fake.logged("injected failure 500"), 2, "{:?}", fake.lines);
    assert_eq!(fake.logged("injected failure 410"), 0, "{:?}", fake.lines);
}

#[tokio::test]
async fn a_watch_that_times_out_is_resumed() {
    let fake = FakeCluster::new();
    let _cluster = fake.connect_for(Duration::from_secs(2));
    fake.api.until("three watches", |api| api.requests("WATCH").len() >= 3).await;
    let watches = fake.api.requests("WATCH");
    assert!(watches[0].target.ends_with("resourceVersion=0"), "{watches:?}");
    for watch in &watches[1..] {
        assert!(watch.target.ends_with("resourceVersion=100"), "{watches:?}");
    }
    assert!(fake.lines.lock().unwrap().is_empty(), "{:?}", fake.lines);
}

#[tokio::test]
async fn a_repeated_event_is_sent_once() {
    let fake = FakeCluster::new();
    fake.api.fail("POST", &[500, 409, 403]);
    let cluster = fake.connect();
    for _ in 0..3 {
        cluster.send_event("SliceUnhealthy", "MIG-a: xid 94", EventType::Warning);
    }
    // The second try is answered with 409: it was there already. What is forbidden is given up.
    cluster.send_event("SliceUnhealthy", "MIG-b: xid 94", EventType::Warning);
    fake.flush(&cluster, "end").await;
    let posts = fake.api.requests("POST");
    let messages: Vec<_> =
        posts.iter().map(|post| post.body["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["MIG-a: xid 94", "MIG-a: xid 94", "MIG-b: xid 94", "end"]);
    assert_eq!(posts[0].body, posts[1].body, "the same event, by name and time");
    let body = &posts[0].body;
    assert_eq!(body["involvedObject"]["name"], NODE);
    assert_eq!((&body["type"], &body["reason"]), (&json!("Warning"), &json!("SliceUnhealthy")));
    assert_eq!(body["metadata"]["namespace"], "default");
    assert_eq!(fake.logged("create an event of node"), 2, "{:?}", fake.lines);
}

#[tokio::test]
async fn an_unreachable_cluster_blocks_nothing() {
    let fake = FakeCluster::new();
    let absent = Some(fake.dir.path().join("absent"));
    let lost = Cluster::connect(NODE, absent, Timing::default(), fake.logger());
    fake.api.until("the failure is logged", |_| fake.logged("watch node node-1: read ") == 1).await;
    drop(lost);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = fake.api.kubeconfig(fake.dir.path());
    let config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut dead = config.clone();
    dead["clusters"][0]["cluster"]["server"] = json!(format!("http://{free}"));
    fs::write(&path, dead.to_string()).unwrap();
    let retry = RetryDelays { first: SOON, limit: SOON };
    let timing = Timing { retry, write_interval: SOON, ..Timing::default() };
    let cluster = Cluster::connect(NODE, Some(path.clone()), timing, fake.logger());
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    assert!(!cluster.wait_written(SOON * 20).await);
    fake.api
        .until("the failure is logged once more", |_| fake.logged("watch node node-1: ") == 2)
        .await;
    // When the server appears, even at another address, everything is written.
    fs::write(&path, config.to_string()).unwrap();
    fake.api.until("the node is labelled", |api| api.label("nvidia.com/gpu.count").is_some()).await;
}
