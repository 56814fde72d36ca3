//! Partitioning by label, with a fake API server and a fake kubelet.

use clap::Parser;
use mig_cdi_args::WatchCommandLine;
use mig_cdi_kubelet::{
    cluster::{self, Cluster, RetryDelays},
    repartition::{AllocationGate, RepartitionSettings, Repartitioner},
    strategy::Resource,
};
use mig_cdi_model::is_unprintable;
use mig_cdi_tests::{
    fake_api_server::FakeApiServer,
    fake_cluster::{FakeCluster, SOON, TIMEOUT},
    fake_pod_resources::FakePodResources,
    partition_host::{CONTAINER, PartitionHost},
    program, script_program,
};
use serde_json::json;
use std::{fs, path::PathBuf};
use tokio::task::AbortHandle;

const LAYOUTS: &str = r#"version: v1
mig-configs:
  balanced:
    - devices: all
      mig-enabled: true
      mig-devices: {"2g.20gb": 2, "1g.10gb": 1}
  halves:
    - devices: all
      mig-enabled: true
      mig-devices: {"3g.40gb": 2}
  whole:
    - devices: all
      mig-enabled: true
      mig-devices: {"7g.80gb": 1}
"#;

/// Node of such a cluster whose GPUs are partitioned by label.
struct LabelledNode {
    fake: FakeCluster,
    host: PartitionHost,
    kubelet: FakePodResources,
    gate: AllocationGate,
}

impl LabelledNode {
    fn new() -> LabelledNode {
        LabelledNode::of("[[gpu]]\nmodel = \"a100-80gb\"\n")
    }

    fn of(description: &str) -> LabelledNode {
        let (fake, host) = (FakeCluster::new(), PartitionHost::new(description));
        let kubelet = FakePodResources::start(fake.dir.path());
        let fixture = LabelledNode { fake, host, kubelet, gate: AllocationGate::default() };
        fs::write(fixture.path("layouts.yaml"), LAYOUTS).unwrap();
        let script = format!(
            "echo \"$@\" >>{calls}\nwhile [ -e {hold} ]; do /bin/sleep 0.02; done\nexec {} \"$@\"",
            program("mig-cdi-kubelet").display(),
            calls = fixture.path("calls").display(),
            hold = fixture.path("hold").display(),
        );
        script_program(&fixture.path("program"), &script);
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.fake.dir.path().join(name)
    }

    /// Returns the recorded runs of a command of the program.
    fn runs(&self, command: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let wanted = format!("repartition {{\"step\":\"{command}\"");
        text.lines().filter(|line| line.starts_with(&wanted)).map(str::to_owned).collect()
    }

    /// Returns the recorded runs of `apply`.
    fn calls(&self) -> Vec<String> {
        self.runs("apply")
    }

    /// Starts the plugin; its tasks end when the returned guard is dropped.
    async fn start(&self) -> Running {
        let cluster = self.fake.connect();
        let watch = WatchCommandLine::try_parse_from(self.host.fake.flags()).unwrap();
        let (setup, state_dir) = (watch.setup().unwrap(), self.host.state());
        let mut settings = RepartitionSettings::new(self.path("layouts.yaml"), &setup, &state_dir);
        settings.program = Some(self.path("program"));
        settings.holders_root = self.host.fake.root();
        settings.journal_dir = self.host.journal();
        settings.pod_resources = self.kubelet.socket().to_owned();
        settings.host_root = self.host.fake.root();
        (settings.poll, settings.retry) = (SOON, RetryDelays { first: TIMEOUT, limit: TIMEOUT });
        let log = self.fake.logger();
        let repartition = Repartitioner::new(cluster.clone(), settings, self.gate.clone(), log);
        Running { task: tokio::spawn(repartition.run()).abort_handle(), cluster }
    }

    async fn until(&self, state: &str) {
        let is =
            |api: &FakeApiServer| api.label(cluster::STATE).as_deref().unwrap_or_default() == state;
        self.fake.api.until(state, is).await;
    }

    fn set_config_label(&self, config: &str) {
        self.fake.api.set_label(cluster::CONFIG, Some(config));
    }

    fn reason(&self) -> String {
        self.fake.api.annotation(cluster::REASON).unwrap_or_default()
    }

    /// Partitions GPUs by hand.
    fn apply_by_cli(&self, layout: &str) {
        self.host.run_ok(&["apply", layout]);
    }
}

struct Running {
    task: AbortHandle,
    cluster: Cluster,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const BALANCED: &str = "2g.20gb@0,2g.20gb@2,1g.10gb@6";

#[tokio::test]
async fn a_label_partitions_gpus() {
    let fixture = LabelledNode::new();
    let running = fixture.start().await;
    fixture.set_config_label("balanced");
    fixture.until("success").await;
    assert_eq!(fixture.fake.api.history(cluster::STATE), ["", "pending", "success"]);
    let layouts = fixture.host.layouts();
    assert_eq!(layouts[0].matches("2g.20gb").count(), 2, "{layouts:?}");
    let spec = fixture.host.fake.read_spec().expect("apply refreshes the spec");
    assert!(spec.contains("2g.20gb"), "{spec}");
    fixture.fake.flush(&running.cluster, "end").await;
    let event = &fixture.fake.api.requests("POST")[0].body;
    assert_eq!((&event["reason"], &event["type"]), (&json!("Repartitioned"), &json!("Normal")));

    // The label is removed: the state label goes too, and the GPUs stay as they are.
    fixture.fake.api.set_label(cluster::CONFIG, None);
    fixture.until("").await;
    assert_eq!(fixture.fake.api.annotation(cluster::LAST), None);
    assert_eq!(fixture.host.layouts(), layouts);
    // When it is set again, it is applied again.
    fixture.set_config_label("balanced");
    fixture.until("success").await;
    assert_eq!((fixture.runs("plan").len(), fixture.calls().len()), (2, 1));
}

#[tokio::test]
async fn slices_of_pods_stay_until_the_pods_end() {
    let fixture = LabelledNode::new();
    fixture.apply_by_cli(&format!("0={BALANCED}"));
    // The kubelet lists slices by their UUIDs, or by other names.
    let text = fixture.host.run_ok(&["list", "--json"]).stdout;
    let start = text.find("MIG-").expect("a UUID");
    let uuid = &text[start..start + "MIG-".len() + 36];
    for id in [uuid, "0:2g.20gb:0"] {
        fixture.kubelet.set(&[("train", id), ("other", "MIG-of-another-time")]);
        let running = fixture.start().await;
        fixture.set_config_label("whole");
        fixture.until("failed").await;
        let expected = "is in use by pod default/train";
        assert!(fixture.reason().contains(expected), "{}", fixture.reason());
        assert_eq!(fixture.host.layouts(), [BALANCED]);
        fixture.fake.flush(&running.cluster, id).await;
        let posts = fixture.fake.api.requests("POST");
        let is_reported = posts.iter().any(|post| {
            post.body["reason"] == "RepartitionFailed"
                && post.body["message"].as_str().unwrap().contains(expected)
        });
        assert!(is_reported, "{posts:?}");
        // Pods on other slices start and end: apply is not run again.
        let (requests, calls) = (fixture.kubelet.requests(), fixture.calls().len());
        fixture.kubelet.set(&[("train", id)]);
        fixture
            .fake
            .api
            .until("the next poll", |_| fixture.kubelet.requests() > requests + 2)
            .await;
        assert_eq!(fixture.calls().len(), calls);
        // The pod on the slice in question ends.
        fixture.kubelet.set(&[]);
        fixture.until("success").await;
        assert_eq!(fixture.host.layouts(), ["7g.80gb@0"]);
        assert_eq!(fixture.reason(), "");
        fixture.fake.api.set_label(cluster::CONFIG, None);
        fixture.until("").await;
        drop(running);
        fixture.apply_by_cli(&format!("0={BALANCED}"));
    }
}

/// S30: what a process writes into its command line is for the administrator of the node alone.
#[tokio::test]
async fn a_command_line_does_not_reach_the_cluster() {
    let fixture = LabelledNode::of(
        "[[gpu]]\nmodel = \"a100-80gb\"\n\
         instances = [{ profile = \"3g.40gb\", start = 0 }, { profile = \"3g.40gb\", start = 4 }]\n\
         processes = [{ pid = 77, gi = 1, ci = 0 }, { pid = 4711, gi = 2, ci = 0 }]\n",
    );
    let secret = "train --token=hunter2 \u{202e}\u{2066}\u{1b}[2J\n";
    fixture.host.process(4711, "mnt:[1]", "0::/user.slice\n", secret);
    let cgroup = format!("0::/machine.slice/libpod-{CONTAINER}.scope\n");
    fixture.host.process(77, "mnt:[2]", &cgroup, secret);
    // A container can choose the name of a cgroup, which is in the reason why this one cannot be examined.
    fixture.host.write("/sys/fs/cgroup/devices/x", "");
    fixture.host.process(79, "mnt:[3]", "5:devices:/hunter2-train\u{202e}\n0::/\n", "sleep");
    let running = fixture.start().await;
    fixture.set_config_label("whole");
    fixture.until("failed").await;
    fixture.fake.flush(&running.cluster, "end").await;
    let posts = fixture.fake.api.requests("POST");
    let failed = posts.iter().find(|post| post.body["reason"] == "RepartitionFailed");
    let event = failed.expect("an Event").body["message"].as_str().unwrap().to_owned();
    for text in [fixture.reason(), event] {
        assert!(text.contains("pid 77 of container 4f08cd7afbc6"), "{text}");
        assert!(text.contains("pid 4711"), "{text}");
        assert!(text.contains("pid 79, which cannot be examined"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("train"), "{text}");
        assert!(!text.contains(is_unprintable), "{text:?}");
    }
    assert_eq!(fixture.fake.logged("hunter2"), 0);
    // The administrator of the node sees it.
    let run = fixture.host.run(&["apply", "0=7g.80gb"]);
    run.assert_code(5);
    assert!(run.stderr.contains("--token=hunter2"), "{}", run.stderr);
    assert!(run.stderr.contains("/hunter2-train"), "{}", run.stderr);
}

#[tokio::test]
async fn an_unknown_layout_fails_until_the_file_or_label_changes() {
    let fixture = LabelledNode::new();
    let _running = fixture.start().await;
    fixture.set_config_label("quarters");
    fixture.until("failed").await;
    assert!(fixture.reason().contains("quarters"), "{}", fixture.reason());
    assert_eq!(fixture.host.layouts(), ["none"]);
    // The file is corrected.
    fs::write(fixture.path("layouts.yaml"), LAYOUTS.replace("halves", "quarters")).unwrap();
    fixture.until("success").await;
    assert_eq!(fixture.host.layouts(), ["3g.40gb@0,3g.40gb@4"]);
    // Another label takes effect at once.
    fixture.set_config_label("halves");
    fixture.until("failed").await;
    fixture.set_config_label("whole");
    fixture.until("success").await;
    assert_eq!(fixture.host.layouts(), ["7g.80gb@0"]);
}

#[tokio::test]
async fn the_newest_label_wins() {
    let fixture = LabelledNode::new();
    fs::write(fixture.path("hold"), "").unwrap();
    let _running = fixture.start().await;
    fixture.set_config_label("balanced");
    fixture.fake.api.until("the step runs", |_| fixture.path("calls").exists()).await;
    assert!(fixture.gate.is_paused());
    let refused = fixture
        .gate
        .record_allocation(&Resource::gpu(), [&"MIG-a".to_owned()].into_iter())
        .unwrap_err();
    assert!(refused.to_string().contains("balanced"), "{refused}");
    fixture.set_config_label("halves");
    fixture.set_config_label("whole");
    fs::remove_file(fixture.path("hold")).unwrap();
    fixture.until("success").await;
    assert_eq!(fixture.host.layouts(), ["7g.80gb@0"]);
    // The run that had begun was ended, and is not called a success.
    assert_eq!(fixture.fake.api.history(cluster::STATE), ["", "pending", "success"]);
    let calls = fixture.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(
        calls[0].contains("\"layout\":\"balanced\"") && calls[1].contains("\"layout\":\"whole\""),
        "{calls:?}"
    );
    assert!(fixture.gate.wait_until_open(TIMEOUT).await);
}

/// A slice that was allocated a moment ago counts as held, although the kubelet does not list it yet.
#[tokio::test]
async fn a_slice_that_was_just_allocated_is_held() {
    let fixture = LabelledNode::new();
    fixture.apply_by_cli(&format!("0={BALANCED}"));
    let id = "0:2g.20gb:0".to_owned();
    fixture.gate.record_allocation(&Resource::gpu(), [&id].into_iter()).unwrap();
    let _running = fixture.start().await;
    fixture.set_config_label("whole");
    fixture.until("failed").await;
    assert!(
        fixture.reason().contains("in use by a pod that is being started"),
        "{}",
        fixture.reason()
    );
    assert_eq!(fixture.host.layouts(), [BALANCED]);
}

#[tokio::test]
async fn a_restarted_plugin_partitions_only_what_is_not_done() {
    let fixture = LabelledNode::new();
    let running = fixture.start().await;
    fixture.set_config_label("balanced");
    fixture.until("success").await;
    drop(running);
    // Somebody has partitioned by hand since; the plugin does not undo that.
    fixture.apply_by_cli("0=3g.40gb@0");
    let running = fixture.start().await;
    fixture.fake.flush(&running.cluster, "second").await;
    assert_eq!(
        (fixture.runs("plan").len(), fixture.host.layouts()),
        (1, vec!["3g.40gb@0".to_owned()])
    );
    drop(running);
    // The plugin was stopped in the middle of a change.
    fixture.fake.api.set_label(cluster::STATE, Some("pending"));
    let running = fixture.start().await;
    fixture.until("success").await;
    assert_eq!(fixture.calls().len(), 2);
    drop(running);
    // The machine was rebooted: no instance outlives that.
    fixture.host.write("/proc/sys/kernel/random/boot_id", "another\n");
    let _running = fixture.start().await;
    fixture.fake.api.until("the next poll", |_| fixture.runs("plan").len() == 3).await;
    fixture.until("success").await;
    let last = fixture.fake.api.annotation(cluster::LAST);
    fixture
        .fake
        .api
        .until("the annotation is written", |api| {
            api.annotation(cluster::LAST).as_deref() == Some("balanced another")
        })
        .await;
    assert!(last.is_none() || last.as_deref() == Some("balanced another"), "{last:?}");
}

/// The mode of a GPU that a pod has as a whole is not changed, even if no program of the pod runs yet.
#[test]
fn gpus_in_use_keep_their_mode() {
    let host = PartitionHost::new("[[gpu]]\nmodel = \"h100-80gb\"\nmig = false\n");
    let uuid = host.node().gpus[0].uuid.to_string();
    for id in [uuid.as_str(), "0"] {
        let run = host.run(&["apply", &format!("--in-use={id}=pod default/train"), "0=7g.80gb"]);
        run.assert_code(5);
        assert!(run.stderr.contains("gpu 0: it is in use by pod default/train"), "{}", run.stderr);
        assert_eq!(host.layouts(), ["off"]);
    }
    for in_use in ["no-holder", "GPU-of-another-node=pod default/train"] {
        host.run(&["apply", &format!("--in-use={in_use}"), "0=7g.80gb"]).assert_code(2);
        assert_eq!(host.layouts(), ["off"]);
    }
    host.run_ok(&["apply", "0=7g.80gb"]);
}
