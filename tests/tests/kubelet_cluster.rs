//! The plugin's part in the cluster: labels and Events, against an API server that fails when it is told to.

use mig_cdi_kubelet::cluster::{self, Cluster, EventType, RetryDelays, Timing};
use mig_cdi_tests::{
    kube_api::ApiServer,
    town::{FOREVER, NODE, SOON, Town},
};
use serde_json::json;
use std::{collections::BTreeMap, fs, time::Duration};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn labels_are_written_where_they_differ() {
    let town = Town::new();
    let cluster = town.connect();
    let wanted = labels(&[
        ("nvidia.com/gpu.count", "8"),
        ("nvidia.com/mig.strategy", "mixed"),
        ("nvidia.com/gpu.product", "not a value"),
    ]);
    cluster.set_labels(&wanted);
    cluster.set_labels(&wanted);
    town.fence(&cluster, "first").await;
    let patches = town.api.requests("PATCH");
    assert_eq!(patches.len(), 1, "{patches:#?}");
    assert_eq!(patches[0].target, "/api/v1/nodes/node-1?&fieldManager=mig-cdi-kubelet");
    assert_eq!(patches[0].content_type, "application/merge-patch+json");
    assert!(patches[0].accept.contains("as=PartialObjectMetadata"), "{}", patches[0].accept);
    let expected = json!({"metadata": {
        "labels": {"nvidia.com/gpu.count": "8", "nvidia.com/mig.strategy": "mixed"},
        "annotations":
            {"nvidia.com/mig-cdi.labels": "nvidia.com/gpu.count,nvidia.com/mig.strategy"}}});
    assert_eq!(patches[0].body, expected);
    assert_eq!(town.said("not a value"), 1);
    // Somebody else's labels are his.
    assert_eq!(town.api.label("kubernetes.io/os").as_deref(), Some("linux"));

    // A start that finds the node as it is writes nothing.
    drop(cluster);
    let cluster = town.connect();
    cluster.set_labels(&wanted);
    town.fence(&cluster, "second").await;
    assert_eq!(town.api.requests("PATCH").len(), 1);

    // One that has less to say takes back what the first has said.
    drop(cluster);
    let cluster = town.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "7")]));
    town.fence(&cluster, "third").await;
    let expected = json!({"metadata": {
        "labels": {"nvidia.com/gpu.count": "7", "nvidia.com/mig.strategy": null},
        "annotations": {"nvidia.com/mig-cdi.labels": "nvidia.com/gpu.count"}}});
    assert_eq!(
        town.api.requests("PATCH")[1..].iter().map(|p| &p.body).collect::<Vec<_>>(),
        [&expected]
    );
}

#[tokio::test]
async fn what_somebody_writes_over_a_label_is_mended() {
    let town = Town::new();
    let cluster = town.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    town.fence(&cluster, "first").await;
    town.api.set_label("nvidia.com/gpu.count", Some("9"));
    town.api.until("it is mended", |api| api.requests("PATCH").len() == 2).await;
    town.api
        .until("it is mended", |api| api.label("nvidia.com/gpu.count").as_deref() == Some("8"))
        .await;
}

#[tokio::test]
async fn writes_that_fail_are_said_once_and_done_later() {
    let town = Town::new();
    town.api.fail("PATCH", &[500, 500, 500, 409, 409, 429, 403]);
    let cluster = town.connect();
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    assert!(cluster.written(FOREVER).await);
    assert_eq!(town.api.requests("PATCH").len(), 8);
    for code in [500, 409, 429, 403] {
        assert_eq!(town.said(&format!("told to fail with {code}")), 1, "{:?}", town.lines);
    }
    assert_eq!(town.said("write labels of node node-1: "), 4);
}

#[tokio::test]
async fn the_watch_goes_on_where_it_was() {
    let town = Town::new();
    let cluster = town.connect();
    let mut desired = cluster.desired();
    let mut asks = async |config: &str| {
        let asked = desired
            .wait_for(|now| now.as_ref().is_some_and(|now| now.config.as_deref() == Some(config)));
        assert!(tokio::time::timeout(FOREVER, asked).await.is_ok(), "{config}");
    };
    let from = |api: &ApiServer| -> Vec<u64> {
        let version = |target: &str| target.rsplit_once("resourceVersion=")?.1.parse().ok();
        let watches = api.requests("WATCH");
        watches.iter().map(|request| version(&request.target).unwrap()).collect()
    };
    town.api.set_label(cluster::CONFIG, Some("a"));
    asks("a").await;
    // The server goes down and comes back: nothing is missed, nothing told again.
    town.api.fail("WATCH", &[500, 503]);
    town.api.cut();
    town.api.set_label(cluster::CONFIG, Some("b"));
    asks("b").await;
    assert_eq!(from(&town.api), [0, 107, 107, 107]);
    // It has forgotten: as an answer, and as an event.
    town.api.fail("WATCH", &[410]);
    town.api.cut();
    town.api.set_label(cluster::CONFIG, Some("c"));
    asks("c").await;
    assert_eq!(from(&town.api)[4..], [114, 0]);
    town.api.fail("WATCH", &[500]);
    town.api.cut();
    for config in ["d", "e", "f"] {
        town.api.set_label(cluster::CONFIG, Some(config));
    }
    town.api.forget();
    asks("f").await;
    let last = from(&town.api).last().copied();
    assert!(last == Some(0) || last == Some(121), "{:?}", from(&town.api));
    // Nothing was listed, and no other node was asked for.
    for request in town.api.requests("WATCH") {
        assert!(request.target.contains("fieldSelector=metadata.name%3Dnode-1"), "{request:?}");
        assert!(request.target.contains("allowWatchBookmarks=true"), "{request:?}");
        assert!(request.accept.contains("as=PartialObjectMetadata"), "{request:?}");
    }
    assert!(town.api.requests("GET").is_empty());
    assert_eq!(town.said("told to fail with 500"), 2, "{:?}", town.lines);
    assert_eq!(town.said("told to fail with 410"), 0, "{:?}", town.lines);
}

#[tokio::test]
async fn a_watch_that_ends_in_time_is_taken_up_again() {
    let town = Town::new();
    let _cluster = town.connect_for(Duration::from_secs(2));
    town.api.until("three watches", |api| api.requests("WATCH").len() >= 3).await;
    let watches = town.api.requests("WATCH");
    assert!(watches[0].target.ends_with("resourceVersion=0"), "{watches:?}");
    for watch in &watches[1..] {
        assert!(watch.target.ends_with("resourceVersion=100"), "{watches:?}");
    }
    assert!(town.lines.lock().unwrap().is_empty());
}

#[tokio::test]
async fn events_are_few() {
    let town = Town::new();
    town.api.fail("POST", &[500, 409, 403]);
    let cluster = town.connect();
    for _ in 0..3 {
        cluster.event("SliceUnhealthy", "MIG-a: xid 94", EventType::Warning);
    }
    // The second try is answered with 409: it was there already. What is forbidden is given up.
    cluster.event("SliceUnhealthy", "MIG-b: xid 94", EventType::Warning);
    town.fence(&cluster, "end").await;
    let posts = town.api.requests("POST");
    let messages: Vec<_> =
        posts.iter().map(|post| post.body["message"].as_str().unwrap()).collect();
    assert_eq!(messages, ["MIG-a: xid 94", "MIG-a: xid 94", "MIG-b: xid 94", "end"]);
    assert_eq!(posts[0].body, posts[1].body, "the same event, by name and time");
    let body = &posts[0].body;
    assert_eq!(body["involvedObject"]["name"], NODE);
    assert_eq!((&body["type"], &body["reason"]), (&json!("Warning"), &json!("SliceUnhealthy")));
    assert_eq!(body["metadata"]["namespace"], "default");
    assert_eq!(town.said("create an event of node"), 2, "{:?}", town.lines);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_holds_nothing_up() {
    let town = Town::new();
    let absent = Some(town.dir.path().join("absent"));
    let lost = Cluster::connect(NODE, absent, Timing::default(), town.say());
    town.api.until("it is said", |_| town.said("watch node node-1: read ") == 1).await;
    drop(lost);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let path = town.api.kubeconfig(town.dir.path());
    let config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut dead = config.clone();
    dead["clusters"][0]["cluster"]["server"] = json!(format!("http://{free}"));
    fs::write(&path, dead.to_string()).unwrap();
    let retry = RetryDelays { first: SOON, limit: SOON };
    let timing = Timing { retry, write_interval: SOON, ..Timing::default() };
    let cluster = Cluster::connect(NODE, Some(path.clone()), timing, town.say());
    cluster.set_labels(&labels(&[("nvidia.com/gpu.count", "8")]));
    assert!(!cluster.written(SOON * 20).await);
    assert_eq!(town.said("watch node node-1: "), 2, "{:?}", town.lines);
    // When it comes, at another address even, all is written.
    fs::write(&path, config.to_string()).unwrap();
    town.api.until("it is labelled", |api| api.label("nvidia.com/gpu.count").is_some()).await;
}
