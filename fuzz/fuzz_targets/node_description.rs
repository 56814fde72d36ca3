//! A node description through the whole pipeline: no panic, and a document that keeps CDI's rules.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi::{
    discover::{Source, discover},
    spec::{Admin, Content, Format, NameStyle, Options, build, to_text},
};
use mig_cdi_sim::{Node, SimulatedMachine};

fuzz_target!(|text: &str| {
    let Ok(node) = Node::parse(text) else { return };
    let machine = SimulatedMachine::new(node);
    for source in [Source::Nvml, Source::Proc] {
        let Ok(discovery) = discover(&machine, source) else { continue };
        let options = Options {
            kind: "nvidia.com/mig".parse().expect("a kind"),
            names: vec![NameStyle::Uuid, NameStyle::Slot, NameStyle::Index],
            source,
            library_dirs: Vec::new(),
            params_file: None,
            graphics: true,
            admin: vec![Admin::Config, Admin::Monitor],
            cuda_env: true,
            annotations: true,
            max_version: "1.1.0".parse().expect("a version"),
        };
        let build = |content| build(&discovery.topology, &[], content, &options).ok();
        let built = [Content::Mig, Content::Gpus].into_iter().filter_map(build);
        for spec in built.filter_map(|built| built.spec) {
            let mut names: Vec<_> = spec.devices.iter().map(|device| &device.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), spec.devices.len(), "a name twice");
            assert!(spec.devices.iter().all(|d| !d.container_edits.device_nodes.is_empty()));
            for format in [Format::Json, Format::Yaml] {
                to_text(&spec, format).expect("a document can be written");
            }
        }
    }
});
