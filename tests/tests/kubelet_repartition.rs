//! Repartition by label, against an API server and a kubelet that do as they are told.

use clap::Parser;
use mig_cdi_args::WatchCommandLine;
use mig_cdi_kubelet::{
    cluster::{self, Cluster, RetryDelays},
    repartition::{AllocationGate, Repartition, RepartitionSettings},
    strategy::Resource,
};
use mig_cdi_tests::{
    kube_api::ApiServer,
    partition::Site,
    pod_resources::Kubelet,
    program, run,
    town::{FOREVER, SOON, Town},
};
use serde_json::json;
use std::{fs, path::PathBuf, process::Command};
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

/// A node of such a cluster whose GPUs are divided by label.
struct Farm {
    town: Town,
    site: Site,
    kubelet: Kubelet,
    gate: AllocationGate,
}

impl Farm {
    fn new() -> Farm {
        let (town, site) = (Town::new(), Site::new("[[gpu]]\nmodel = \"a100-80gb\"\n"));
        let kubelet = Kubelet::start(town.dir.path());
        let farm = Farm { town, site, kubelet, gate: AllocationGate::default() };
        fs::write(farm.path("layouts.yaml"), LAYOUTS).unwrap();
        // By another process: what this one has open for writing, a child of another thread could hold, and
        // then it does not run (ETXTBSY).
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{calls}\nwhile [ -e {hold} ]; do /bin/sleep 0.02; done\nexec {} \"$@\"\n",
            program("mig-cdi-kubelet").display(),
            calls = farm.path("calls").display(),
            hold = farm.path("hold").display(),
        );
        let mut write = Command::new("sh");
        write.args(["-c", "printf %s \"$0\" >\"$1\" && chmod +x \"$1\"", &script]);
        assert_eq!(run(write.arg(farm.path("program"))).code, 0);
        farm
    }

    fn path(&self, name: &str) -> PathBuf {
        self.town.dir.path().join(name)
    }

    /// The runs of a command of the program.
    fn runs(&self, command: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let wanted = format!("repartition {{\"step\":\"{command}\"");
        text.lines().filter(|line| line.starts_with(&wanted)).map(str::to_owned).collect()
    }

    /// Those that were to divide.
    fn calls(&self) -> Vec<String> {
        self.runs("apply")
    }

    /// The plugin starts. What it runs ends with what is given back.
    async fn start(&self) -> Running {
        let cluster = self.town.connect();
        let watch = WatchCommandLine::try_parse_from(self.site.host.flags()).unwrap();
        let mut settings = RepartitionSettings::new(
            self.path("program"),
            self.path("layouts.yaml"),
            &watch.setup().unwrap(),
            &self.site.state(),
        );
        settings.holders_root = self.site.host.root();
        settings.journal_dir = self.site.journal();
        settings.pod_resources = self.kubelet.socket().to_owned();
        settings.host_root = self.site.host.root();
        (settings.poll, settings.retry) = (SOON, RetryDelays { first: FOREVER, limit: FOREVER });
        let say = self.town.say();
        let repartition = Repartition::new(cluster.clone(), settings, self.gate.clone(), say);
        Running { task: tokio::spawn(repartition.run()).abort_handle(), cluster }
    }

    async fn until(&self, state: &str) {
        let is =
            |api: &ApiServer| api.label(cluster::STATE).as_deref().unwrap_or_default() == state;
        self.town.api.until(state, is).await;
    }

    fn ask(&self, config: &str) {
        self.town.api.set_label(cluster::CONFIG, Some(config));
    }

    fn reason(&self) -> String {
        self.town.api.annotation(cluster::REASON).unwrap_or_default()
    }

    /// Somebody divides GPUs by hand.
    fn by_hand(&self, wish: &str) {
        self.site.must(&["apply", wish]);
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
async fn a_label_divides_gpus() {
    let farm = Farm::new();
    let running = farm.start().await;
    farm.ask("balanced");
    farm.until("success").await;
    assert_eq!(farm.town.api.history(cluster::STATE), ["", "pending", "success"]);
    let layouts = farm.site.layouts();
    assert_eq!(layouts[0].matches("2g.20gb").count(), 2, "{layouts:?}");
    let spec = farm.site.host.read_spec().expect("apply refreshes the spec");
    assert!(spec.contains("2g.20gb"), "{spec}");
    farm.town.fence(&running.cluster, "end").await;
    let event = &farm.town.api.requests("POST")[0].body;
    assert_eq!((&event["reason"], &event["type"]), (&json!("Repartitioned"), &json!("Normal")));

    // The label goes: nothing is said any more, and the GPUs stay.
    farm.town.api.set_label(cluster::CONFIG, None);
    farm.until("").await;
    assert_eq!(farm.town.api.annotation(cluster::LAST), None);
    assert_eq!(farm.site.layouts(), layouts);
    // Set again it is looked at again.
    farm.ask("balanced");
    farm.until("success").await;
    assert_eq!((farm.runs("plan").len(), farm.calls().len()), (2, 1));
}

#[tokio::test]
async fn what_pods_hold_stays_until_they_end() {
    let farm = Farm::new();
    farm.by_hand(&format!("0={BALANCED}"));
    // The kubelet knows slices by their UUIDs, or by other names of them.
    let text = farm.site.must(&["list", "--json"]).stdout;
    let start = text.find("MIG-").expect("a UUID");
    let uuid = &text[start..start + "MIG-".len() + 36];
    for id in [uuid, "0:2g.20gb:0"] {
        farm.kubelet.set(&[("train", id), ("other", "MIG-of-another-time")]);
        let running = farm.start().await;
        farm.ask("whole");
        farm.until("failed").await;
        let expected = "is in use by pod default/train";
        assert!(farm.reason().contains(expected), "{}", farm.reason());
        assert_eq!(farm.site.layouts(), [BALANCED]);
        farm.town.fence(&running.cluster, id).await;
        let posts = farm.town.api.requests("POST");
        let told = posts.iter().any(|post| {
            post.body["reason"] == "RepartitionFailed"
                && post.body["message"].as_str().unwrap().contains(expected)
        });
        assert!(told, "{posts:?}");
        // Pods that are not in the way come and go: nothing is tried for that.
        let (asked, calls) = (farm.kubelet.asked(), farm.calls().len());
        farm.kubelet.set(&[("train", id)]);
        farm.town.api.until("it looks", |_| farm.kubelet.asked() > asked + 2).await;
        assert_eq!(farm.calls().len(), calls);
        // The one that is in the way ends.
        farm.kubelet.set(&[]);
        farm.until("success").await;
        assert_eq!(farm.site.layouts(), ["7g.80gb@0"]);
        assert_eq!(farm.reason(), "");
        farm.town.api.set_label(cluster::CONFIG, None);
        farm.until("").await;
        drop(running);
        farm.by_hand(&format!("0={BALANCED}"));
    }
}

#[tokio::test]
async fn a_label_that_names_nothing_fails_until_something_changes() {
    let farm = Farm::new();
    let _running = farm.start().await;
    farm.ask("quarters");
    farm.until("failed").await;
    assert!(farm.reason().contains("quarters"), "{}", farm.reason());
    assert_eq!(farm.site.layouts(), ["none"]);
    // The file is mended.
    fs::write(farm.path("layouts.yaml"), LAYOUTS.replace("halves", "quarters")).unwrap();
    farm.until("success").await;
    assert_eq!(farm.site.layouts(), ["3g.40gb@0,3g.40gb@4"]);
    // Another label is heeded at once.
    farm.ask("halves");
    farm.until("failed").await;
    farm.ask("whole");
    farm.until("success").await;
    assert_eq!(farm.site.layouts(), ["7g.80gb@0"]);
}

#[tokio::test]
async fn the_newest_label_counts() {
    let farm = Farm::new();
    fs::write(farm.path("hold"), "").unwrap();
    let _running = farm.start().await;
    farm.ask("balanced");
    farm.town.api.until("it runs", |_| farm.path("calls").exists()).await;
    assert!(farm.gate.is_paused());
    let refused = farm
        .gate
        .record_allocation(&Resource::gpu(), [&"MIG-a".to_owned()].into_iter())
        .unwrap_err();
    assert!(refused.to_string().contains("balanced"), "{refused}");
    farm.ask("halves");
    farm.ask("whole");
    fs::remove_file(farm.path("hold")).unwrap();
    farm.until("success").await;
    assert_eq!(farm.site.layouts(), ["7g.80gb@0"]);
    // The run that had begun was ended, and is not called a success.
    assert_eq!(farm.town.api.history(cluster::STATE), ["", "pending", "success"]);
    let calls = farm.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(
        calls[0].contains("--layout=balanced") && calls[1].contains("--layout=whole"),
        "{calls:?}"
    );
    assert!(farm.gate.wait_until_open(FOREVER).await);
}

/// What was handed out a moment ago is held, although the kubelet does not list it yet.
#[tokio::test]
async fn a_pod_that_starts_is_seen() {
    let farm = Farm::new();
    farm.by_hand(&format!("0={BALANCED}"));
    let id = "0:2g.20gb:0".to_owned();
    farm.gate.record_allocation(&Resource::gpu(), [&id].into_iter()).unwrap();
    let _running = farm.start().await;
    farm.ask("whole");
    farm.until("failed").await;
    assert!(farm.reason().contains("in use by a pod that is being started"), "{}", farm.reason());
    assert_eq!(farm.site.layouts(), [BALANCED]);
}

#[tokio::test]
async fn a_start_of_the_plugin_divides_only_what_is_not_done() {
    let farm = Farm::new();
    let running = farm.start().await;
    farm.ask("balanced");
    farm.until("success").await;
    drop(running);
    // Somebody has divided by hand since: his to say.
    farm.by_hand("0=3g.40gb@0");
    let running = farm.start().await;
    farm.town.fence(&running.cluster, "second").await;
    assert_eq!((farm.runs("plan").len(), farm.site.layouts()), (1, vec!["3g.40gb@0".to_owned()]));
    drop(running);
    // It went down in the middle.
    farm.town.api.set_label(cluster::STATE, Some("pending"));
    let running = farm.start().await;
    farm.until("success").await;
    assert_eq!(farm.calls().len(), 2);
    drop(running);
    // The machine was started anew: no instance outlives that.
    farm.site.write("/proc/sys/kernel/random/boot_id", "another\n");
    let _running = farm.start().await;
    farm.town.api.until("it looks", |_| farm.runs("plan").len() == 3).await;
    farm.until("success").await;
    let last = farm.town.api.annotation(cluster::LAST);
    farm.town
        .api
        .until("it is written", |api| {
            api.annotation(cluster::LAST).as_deref() == Some("balanced another")
        })
        .await;
    assert!(last.is_none() || last.as_deref() == Some("balanced another"), "{last:?}");
}

/// A GPU that a pod has as a whole is not divided under it, even where no program of it runs yet.
#[test]
fn gpus_in_use_keep_their_mode() {
    let site = Site::new("[[gpu]]\nmodel = \"h100-80gb\"\nmig = false\n");
    let uuid = site.node().gpus[0].uuid.to_string();
    for id in [uuid.as_str(), "0"] {
        let run = site.run(&["apply", &format!("--in-use={id}=pod default/train"), "0=7g.80gb"]);
        assert_eq!(run.code, 5, "{}", run.stderr);
        assert!(run.stderr.contains("gpu 0: it is in use by pod default/train"), "{}", run.stderr);
        assert_eq!(site.layouts(), ["off"]);
    }
    let run = site.run(&["apply", "--in-use=no-holder", "0=7g.80gb"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    site.must(&["apply", "--in-use=GPU-of-another-node=pod default/train", "0=7g.80gb"]);
}
