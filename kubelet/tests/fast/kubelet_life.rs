//! `mig-cdi-kubelet` with a kubelet that restarts, refuses, is slow, or has another version; and with a driver that
//! does not answer.

use mig_cdi_kubelet::api;
use mig_cdi_sim::preset;
use mig_cdi_tests::{
    FakeHost,
    fake_kubelet::{FakeKubelet, ListReading, RegistrationAnswer},
    running_plugin::{RunningPlugin, kubelet_dir},
    watch::until,
};
use prost::Message;
use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

const RESOURCE: &str = "nvidia.com/mig-2g.20gb";
const SOCKET: &str = "mig-cdi-mig-2g.20gb.sock";
const ONE: &[(&str, usize)] = &[("mig-2g.20gb", 1)];
const TWO: &[(&str, usize)] = &[("mig-2g.20gb", 2)];

fn node(slices: usize) -> String {
    let slice = "{ profile = \"2g.20gb\" },".repeat(slices);
    format!("[[gpu]]\nmodel = \"a100-80gb\"\npci = \"0000:07:00.0\"\ninstances = [{slice}]\n")
}

fn host(slices: usize) -> FakeHost {
    FakeHost::new(&node(slices))
}

fn start_both(host: &FakeHost) -> (FakeKubelet, RunningPlugin) {
    let kubelet = FakeKubelet::start(&kubelet_dir(host));
    let plugin = RunningPlugin::start(host, &[]);
    kubelet.until_counts("slices", TWO);
    (kubelet, plugin)
}

fn is_alive(kubelet: &FakeKubelet) -> bool {
    kubelet.alive().contains(RESOURCE)
}

#[test]
fn the_plugin_registers_again_after_a_kubelet_restart() {
    let host = host(2);
    let (mut kubelet, plugin) = start_both(&host);
    for round in 2..5 {
        kubelet.restart();
        assert!(!is_alive(&kubelet));
        until("the plugin registers", || {
            kubelet.registrations().len() == round && is_alive(&kubelet)
        });
    }
    host.change_to(&node(1));
    kubelet.until_counts("the next list", ONE);
    // The kubelet is down for a while, in which a slice is created.
    kubelet.end();
    fs::remove_file(kubelet_dir(&host).join("kubelet.sock")).unwrap();
    host.change_to(&node(2));
    // Several times the interval at which the plugin polls the socket of the kubelet (kubelet/src/server.rs).
    std::thread::sleep(Duration::from_secs(2));
    kubelet.restart();
    kubelet.until_counts("both slices after the restart", TWO);
    // A socket of ours that somebody has removed is made again, and registered.
    let count = kubelet.registrations().len();
    fs::remove_file(kubelet_dir(&host).join(SOCKET)).unwrap();
    until("the plugin registers again", || {
        kubelet.registrations().len() > count && is_alive(&kubelet)
    });
    assert_eq!(kubelet.faults(), [""; 0]);
    assert!(!plugin.log().contains("error:"), "{}", plugin.log());
    assert_eq!(plugin.stop(), Some(0));
}

#[test]
fn a_refused_registration_is_retried_and_logged_once() {
    let host = host(2);
    let mut kubelet = FakeKubelet::start_with_answer(
        &kubelet_dir(&host),
        RegistrationAnswer::Refuse("no room for it".to_owned()),
    );
    let plugin = RunningPlugin::start(&host, &[]);
    let words = "kubelet.sock: refused: no room for it";
    until("three attempts", || kubelet.registrations().len() >= 3);
    assert_eq!(plugin.times_logged(words), 1, "{}", plugin.log());
    kubelet.answers(RegistrationAnswer::OtherVersion);
    // Each attempt waits twice as long as the one before; a restart makes the next one follow at once.
    kubelet.restart();
    plugin
        .until_logged("the kubelet requires another version of the device plugin api than v1beta1");
    kubelet.answers(RegistrationAnswer::Accept);
    kubelet.until_counts("the registration is accepted", TWO);
    plugin.until_logged(&format!("registered {RESOURCE} with the kubelet"));
    assert_eq!(plugin.times_logged(words), 1, "{}", plugin.log());
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

#[test]
fn a_silent_kubelet_does_not_delay_the_spec() {
    let host = host(2);
    let never = RegistrationAnswer::Late(Duration::from_secs(1000));
    let mut kubelet = FakeKubelet::start_with_answer(&kubelet_dir(&host), never);
    let plugin = RunningPlugin::start(&host, &[]);
    until("the spec is there", || host.read_spec().is_some());
    plugin.until_logged("kubelet.sock: no answer in 5 s");
    host.change_to(&node(1));
    let current = host.current_spec();
    until("the spec follows", || host.read_spec() == current);
    // The plugin waits for a slow kubelet.
    kubelet.answers(RegistrationAnswer::Late(Duration::from_secs(1)));
    kubelet.restart();
    kubelet.until_counts("the registration is accepted", ONE);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

/// Lists that a kubelet does not read do not queue up, and the next list that it reads is current.
#[test]
fn a_kubelet_that_reads_slowly_gets_the_newest_list() {
    let whole = preset("dgx-a100").unwrap();
    let (before, after) = whole.rsplit_once("{ profile").unwrap();
    let fewer =
        format!("{before}{}", &after[after.find('}').unwrap() + 1..].trim_start_matches(','));
    let host = FakeHost::new(whole);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::start(&host, &[]);
    let resource = "nvidia.com/mig-1g.10gb";
    kubelet.until_counts("all", &[("mig-1g.10gb", 56)]);
    kubelet.reads(ListReading::Not);
    let mut memory = 0;
    for round in 0..25 {
        host.change_to([&fewer, whole][round % 2]);
        let current = host.current_spec();
        until("the spec follows", || host.read_spec() == current);
        // The first changes fill caches of the allocator.
        if round == 4 {
            memory = plugin.memory("VmRSS");
        }
    }
    let grown = plugin.memory("VmRSS").saturating_sub(memory);
    assert!(grown < 2048, "{grown} KiB more than after 5 changes");
    let read = kubelet.lists(resource).len();
    kubelet.reads(ListReading::Slowly(Duration::from_millis(200)));
    kubelet.until_counts("the newest", &[("mig-1g.10gb", 55)]);
    // Older lists, if any had queued up, would arrive now.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(kubelet.healthy(resource).len(), 55);
    // One list in transit and one about to be sent, and none of the twenty others.
    assert!(kubelet.lists(resource).len() - read <= 5, "{}", kubelet.lists(resource).len());
    kubelet.reads(ListReading::AtOnce);
    // A closed stream keeps no file open, and the next one begins with the whole list.
    let sockets = plugin.open_sockets();
    for _ in 0..20 {
        kubelet.drop_stream(resource);
        let count = kubelet.lists(resource).len();
        kubelet.listen_again(resource);
        until("a list", || kubelet.lists(resource).len() > count);
    }
    until("no stream stays open", || plugin.open_sockets() <= sockets);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

#[test]
fn a_killed_plugin_can_start_again_and_a_stopped_one_removes_its_socket() {
    let host = host(2);
    let (kubelet, plugin) = start_both(&host);
    let socket = kubelet_dir(&host).join(SOCKET);
    plugin.kill();
    until("the kubelet notices", || !is_alive(&kubelet));
    assert!(socket.exists(), "a killed plugin removes nothing");
    host.change_to(&node(1));
    let plugin = RunningPlugin::start(&host, &[]);
    kubelet.until_counts("the newest", ONE);
    assert!(is_alive(&kubelet));
    assert_eq!(plugin.stop(), Some(0));
    until("the kubelet notices", || !is_alive(&kubelet));
    let left: Vec<_> = fs::read_dir(kubelet_dir(&host)).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "its own socket is left: {left:?}");
    assert_eq!(kubelet.faults(), [""; 0]);
}

#[test]
fn unusable_directories_are_logged_and_recovered_from() {
    let host = host(2);
    let dir = kubelet_dir(&host);
    // The kubelet was never started here.
    let plugin = RunningPlugin::start(&host, &[]);
    plugin.until_logged(&format!("listen at {}", dir.join(SOCKET).display()));
    until("the spec is there", || host.read_spec().is_some());
    let kubelet = FakeKubelet::start(&dir);
    kubelet.until_counts("the directory is there", TWO);
    assert_eq!(plugin.stop(), Some(0));
    // A file that is no socket is not removed.
    let other_file = dir.join(SOCKET);
    fs::write(&other_file, "precious").unwrap();
    let count = kubelet.registrations().len();
    let plugin = RunningPlugin::start(&host, &[]);
    until("the failure is logged", || plugin.times_logged("listen at") >= 2);
    assert_eq!(fs::read_to_string(&other_file).unwrap(), "precious");
    fs::remove_file(other_file).unwrap();
    until("the resource is served", || kubelet.registrations().len() > count && is_alive(&kubelet));
    assert_eq!(plugin.stop(), Some(0));
    // unix(7): a path of a socket has at most 107 bytes and a null byte.
    let long = dir.join("x".repeat(60));
    fs::create_dir(&long).unwrap();
    let plugin = RunningPlugin::start(&host, &["--kubelet-dir", long.to_str().unwrap()]);
    until("the failure is logged", || {
        plugin.log().lines().any(|line| line.contains("error: listen at") && line.contains("xxx"))
    });
    assert_eq!(plugin.stop(), Some(0));
    assert_eq!(kubelet.faults(), [""; 0]);
}

/// A device that is unchanged in `/proc` stays healthy; one that is missing there is not allocated.
#[test]
fn without_nvml_no_device_becomes_healthy() {
    let host = host(2);
    let kubelet = FakeKubelet::start(&kubelet_dir(&host));
    let plugin = RunningPlugin::with(&host, &[], &["--resync=1"], &[]);
    kubelet.until_counts("slices", TWO);
    let before = kubelet.healthy(RESOURCE);
    let fault = "[faults]\nnvml = \"version-mismatch\"\n";
    host.change_to(&format!("{}{fault}", node(2)));
    until("nvml fails", || plugin.log().contains("error: "));
    assert_eq!(kubelet.healthy(RESOURCE), before);
    host.change_to(&format!("{}{fault}", node(1)));
    until("one device is unhealthy", || kubelet.counts()[RESOURCE] == (2, 1));
    let after = kubelet.healthy(RESOURCE);
    let unhealthy = before.difference(&after).next().unwrap();
    let status = kubelet.allocate(RESOURCE, &[&[unhealthy]]).unwrap_err();
    assert!(
        status.message().starts_with(&format!("allocate {unhealthy} of {RESOURCE}: ")),
        "{status}"
    );
    assert!(!status.message().contains("no such device"), "{status}");
    kubelet.allocate(RESOURCE, &[&[after.first().unwrap()]]).unwrap();
    host.change_to(&node(2));
    kubelet.until_counts("nvml answers again", TWO);
    assert_eq!(kubelet.healthy(RESOURCE), before);
    assert_eq!(kubelet.faults(), [""; 0]);
    assert_eq!(plugin.stop(), Some(0));
}

#[test]
fn garbage_on_its_socket_does_no_harm() {
    let host = host(2);
    let (kubelet, plugin) = start_both(&host);
    let socket = kubelet_dir(&host).join(SOCKET);
    let sockets = plugin.open_sockets();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (bytes, ends) in [
        (&b"GET / HTTP/1.0\r\n\r\n"[..], true),
        (&[0xff; 4096], true),
        (&[&preface[..], &[0xff; 64]].concat(), true),
        (&[&preface[..], settings].concat(), false),
    ] {
        for _ in 0..10 {
            send(&socket, bytes, ends);
        }
        assert!(kubelet.options(RESOURCE).unwrap().get_preferred_allocation_available);
    }
    until("no connection stays open", || plugin.open_sockets() <= sockets);
    host.change_to(&node(1));
    kubelet.until_counts("the next list", ONE);
    assert_eq!(plugin.stop(), Some(0));
}

/// Sends bytes to a socket, and then waits until the other side closes it, if `ends`.
fn send(socket: &Path, bytes: &[u8], ends: bool) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // The other side may have closed it before the last byte.
    let _ = stream.write_all(bytes);
    let begin = Instant::now();
    let mut rest = [0; 4096];
    if !ends {
        return;
    }
    loop {
        match stream.read(&mut rest) {
            Ok(0) | Err(_) => break,
            Ok(_) => assert!(
                begin.elapsed() < Duration::from_secs(30),
                "the plugin never closes the connection"
            ),
        }
    }
}

/// The bytes of the documented fields (kubernetes,
/// staging/src/k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1/api.proto).
#[test]
fn messages_have_the_documented_bytes() {
    let options = api::DevicePluginOptions {
        pre_start_required: true,
        get_preferred_allocation_available: true,
    };
    assert_eq!(options.encode_to_vec(), [8, 1, 16, 1]);
    let request = api::RegisterRequest {
        version: "v".to_owned(),
        endpoint: "e".to_owned(),
        resource_name: "r".to_owned(),
        options: Some(options),
    };
    assert_eq!(request.encode_to_vec(), b"\x0a\x01v\x12\x01e\x1a\x01r\x22\x04\x08\x01\x10\x01");
    let topology = Some(api::TopologyInfo { nodes: vec![api::NumaNode { id: 3 }] });
    let device = api::PluginDevice { id: "i".to_owned(), health: "h".to_owned(), topology };
    let list = api::ListAndWatchResponse { devices: vec![device] };
    assert_eq!(list.encode_to_vec(), b"\x0a\x0c\x0a\x01i\x12\x01h\x1a\x04\x0a\x02\x08\x03");
    let ids = || vec!["i".to_owned()];
    let request = api::ContainerPreferredAllocationRequest {
        available_device_ids: ids(),
        must_include_device_ids: vec!["m".to_owned()],
        allocation_size: 2,
    };
    let request = api::PreferredAllocationRequest { container_requests: vec![request] };
    assert_eq!(request.encode_to_vec(), b"\x0a\x08\x0a\x01i\x12\x01m\x18\x02");
    let chosen = api::ContainerPreferredAllocationResponse { device_ids: ids() };
    let chosen = api::PreferredAllocationResponse { container_responses: vec![chosen] };
    assert_eq!(chosen.encode_to_vec(), b"\x0a\x03\x0a\x01i");
    let allocation = api::ContainerAllocateRequest { device_ids: ids() };
    let allocation = api::AllocateRequest { container_requests: vec![allocation] };
    assert_eq!(allocation.encode_to_vec(), b"\x0a\x03\x0a\x01i");
    let pair = || [("k".to_owned(), "v".to_owned())].into();
    let answer = api::ContainerAllocateResponse {
        envs: pair(),
        annotations: pair(),
        cdi_devices: vec![api::CdiDevice { name: "c".to_owned() }],
    };
    let answer = api::AllocateResponse { container_responses: vec![answer] };
    let pair = b"\x06\x0a\x01k\x12\x01v";
    let bytes = [b"\x0a\x15\x0a", &pair[..], b"\x22", &pair[..], b"\x2a\x03\x0a\x01c"].concat();
    assert_eq!(answer.encode_to_vec(), bytes);
    let start = api::PreStartContainerRequest { device_ids: ids() };
    assert_eq!(start.encode_to_vec(), b"\x0a\x01i");
}
