//! A layout file, and the same bytes as arguments `GPU=LAYOUT`: no panic, errors of one line, and a selected layout can be
//! written and read back unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mig_cdi_config::layouts::{
    Assignment, GpuIdentity, GpuLayoutSetting, Layouts, mig_parted_yaml, pinned_yaml,
};
use mig_cdi_model::{GpuIndex, GpuUuid};

fuzz_target!(|text: &str| {
    let gpus = [gpu(0, 0x20b2_10de), gpu(1, 0x2330_10de)];
    let arguments: Result<Vec<Assignment>, _> = text.split_whitespace().map(str::parse).collect();
    match arguments.and_then(|arguments| Assignment::select(&arguments, &gpus)) {
        Ok(selected) => selected.into_iter().for_each(|s| write_and_read(&s.layout)),
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error:?}"),
    }
    let layouts = match Layouts::parse(text) {
        Ok(layouts) => layouts,
        Err(error) => {
            let line = error.location.line().expect("files have lines");
            // In YAML a carriage return alone is a line break too (YAML 1.2.2, 5.4).
            let last = text.strip_suffix(['\n', '\r']).unwrap_or(text).split(['\n', '\r']).count();
            assert!((1..=last).contains(&line), "{error:?}");
            assert_eq!(error.to_string().lines().count(), 1, "{error:?}");
            return;
        }
    };
    for name in layouts.names() {
        match layouts.select(name, &gpus) {
            Ok(selected) => selected.into_iter().for_each(|s| write_and_read(&s.layout)),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error:?}"),
        }
    }
    assert!(layouts.select("a name that no file has", &gpus).is_err());
});

fn gpu(index: u32, device_id: u32) -> GpuIdentity {
    let pci = format!("0000:0{index}:00.0").parse().expect("an address");
    GpuIdentity {
        index: GpuIndex(index),
        uuid: uuid(index),
        pci,
        device_id,
        subsystem_id: 0x1463_10de,
    }
}

fn uuid(index: u32) -> GpuUuid {
    format!("GPU-0000000{index}-0000-4000-8000-000000000000").parse().expect("a UUID")
}

fn write_and_read(layout: &GpuLayoutSetting) {
    let gpus = [gpu(0, 0)];
    let read = |text: &str| {
        let layouts = Layouts::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        layouts.select("now", &gpus).unwrap_or_else(|error| panic!("{error}\n{text}"))
    };
    let back = read(&pinned_yaml("now", &[(uuid(0), layout.clone())]));
    assert!(back.len() == 1 && back[0].layout == *layout, "{layout:?} came back as {back:?}");
    if let Ok(text) = mig_parted_yaml("now", &[(GpuIndex(0), layout.clone())]) {
        let again = mig_parted_yaml("now", &[(GpuIndex(0), read(&text)[0].layout.clone())]);
        assert_eq!(again, Ok(text));
    }
}
