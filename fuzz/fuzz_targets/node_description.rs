//! A node description through all stages from discovery to the spec: no panic, a spec that keeps CDI's rules, and one that
//! the hook parses, with its own command line in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_gen::{
    discover::{Source, discover},
    spec::{Admin, DeviceSet, Format, NameStyle, SpecOptions, VerifyHook, build, to_text},
};
use mig_cdi_hook::cli::{self, HookCommand};
use mig_cdi_model::cdi::{Hook, Spec, StrictSpec};
use mig_cdi_sim::{SimulatedMachine, SimulatedNode};

fuzz_target!(|text: &str| {
    let Ok(node) = SimulatedNode::parse(text) else { return };
    assert_eq!(
        SimulatedNode::parse(&node.to_toml()).as_ref(),
        Ok(&node),
        "what is written is read again"
    );
    let machine = SimulatedMachine::new(node);
    for source in [Source::Nvml, Source::Proc] {
        let Ok(discovery) = discover(&machine, source) else { continue };
        let options = SpecOptions {
            kind: "nvidia.com/mig".parse().expect("a kind"),
            names: vec![NameStyle::Uuid, NameStyle::Slot, NameStyle::Index],
            source,
            library_dirs: Vec::new(),
            params_file: None,
            wants_graphics: true,
            admin: vec![Admin::Config, Admin::Monitor],
            sets_cuda_env: true,
            wants_annotations: true,
            verify: Some(VerifyHook {
                path: "/usr/bin/mig-cdi-hook".to_owned(),
                options: vec!["--proc-root=/".to_owned()],
                timeout: 5,
            }),
            ldcache: None,
            max_version: "1.1.0".parse().expect("a version"),
            limited_by: None,
        };
        let build = |content| build(&discovery.topology, &[], content, &options).ok();
        let built = [DeviceSet::Mig, DeviceSet::Gpus].into_iter().filter_map(build);
        for spec in built.filter_map(|built| built.spec) {
            let mut names: Vec<_> = spec.devices.iter().map(|device| &device.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), spec.devices.len(), "a name twice");
            assert!(spec.devices.iter().all(|d| !d.container_edits.device_nodes.is_empty()));
            for format in [Format::Json, Format::Yaml] {
                to_text(&spec, format).expect("a spec can be written");
            }
            the_hook_reads(&spec);
        }
    }
});

fn the_hook_reads(spec: &Spec) {
    let text = to_text(spec, Format::Json).expect("a spec can be written");
    let document = StrictSpec::parse(text.as_bytes(), &spec.kind).expect("our spec");
    for device in &spec.devices {
        assert!(document.device(&device.name).is_some(), "{}", device.name);
        for Hook { args, .. } in &device.container_edits.hooks {
            let command = cli::parse(args.iter().map(Into::into).collect());
            assert!(matches!(command, Ok(HookCommand::Verify(_))), "{args:?}: {command:?}");
        }
    }
}
