//! Discovery on a machine that changes in the meantime.

use mig_cdi_gen::discover::{Source, discover};
use mig_cdi_sim::{SimulatedMachine, SimulatedNode};
use mig_cdi_sys::{DriverRoot, KernelFiles, Machine, NodeStat, Result, nvml};
use std::cell::Cell;

const BEFORE: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\" }]\n";
const AFTER: &str = "[[gpu]]\nmodel = \"a100-80gb\"\ninstances = [{ profile = \"3g.40gb\" }, { profile = \"2g.20gb\" }]\n";

/// Machine on which an instance is created between reading /proc and asking NVML; if `always_changing`, in every attempt.
struct ChangingMachine {
    before: SimulatedMachine,
    after: SimulatedMachine,
    nvml_reads: Cell<u32>,
    always_changing: bool,
}

impl ChangingMachine {
    fn new(always_changing: bool) -> ChangingMachine {
        let machine = |text| SimulatedMachine::new(SimulatedNode::parse(text).unwrap());
        ChangingMachine {
            before: machine(BEFORE),
            after: machine(AFTER),
            nvml_reads: Cell::new(0),
            always_changing,
        }
    }

    fn now(&self) -> &SimulatedMachine {
        if self.nvml_reads.get() == 0 || self.always_changing { &self.before } else { &self.after }
    }
}

impl KernelFiles for ChangingMachine {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        self.now().read(path, limit)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.now().list(path)
    }

    fn node(&self, path: &str) -> Result<Option<NodeStat>> {
        self.now().node(path)
    }
}

impl Machine for ChangingMachine {
    fn driver(&self) -> Option<&DriverRoot> {
        None
    }

    fn nvml(&self) -> std::result::Result<nvml::NvmlSnapshot, nvml::NvmlError> {
        self.nvml_reads.set(self.nvml_reads.get() + 1);
        self.after.nvml()
    }
}

#[test]
fn a_change_during_discovery_is_read_again_completely() {
    let machine = ChangingMachine::new(false);
    let discovery = discover(&machine, Source::Nvml).unwrap();
    assert_eq!(machine.nvml_reads.get(), 2);
    assert_eq!(discovery.problems, []);
    assert_eq!(discovery.topology.mig_devices().count(), 2);
}

#[test]
fn a_lasting_disagreement_is_an_error_with_both_values_for_one_device() {
    let machine = ChangingMachine::new(true);
    let discovery = discover(&machine, Source::Nvml).unwrap();
    assert_eq!(machine.nvml_reads.get(), 2, "a second attempt, and no third");
    assert_eq!(discovery.topology.mig_devices().count(), 1);
    let problems: Vec<_> = discovery.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("gpu 0 gi 3 ci 0: nvml lists it, /proc/driver/nvidia/capabilities/gpu0/mig/gi3/ci0 is not there"), "{problems:?}");
}

/// Machine on which a file vanishes between listing its directory and reading it.
struct VanishingFile(SimulatedMachine, Cell<u32>);

impl KernelFiles for VanishingFile {
    fn read(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let first = self.1.get() == 0 && path.ends_with("/gi1/ci0/access");
        if first { Ok(None) } else { self.0.read(path, limit) }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<String>>> {
        self.0.list(path)
    }

    fn node(&self, path: &str) -> Result<Option<NodeStat>> {
        self.0.node(path)
    }
}

impl Machine for VanishingFile {
    fn driver(&self) -> Option<&DriverRoot> {
        None
    }

    fn nvml(&self) -> std::result::Result<nvml::NvmlSnapshot, nvml::NvmlError> {
        self.1.set(self.1.get() + 1);
        self.0.nvml()
    }
}

#[test]
fn a_file_that_vanishes_during_discovery_is_read_again() {
    let machine =
        VanishingFile(SimulatedMachine::new(SimulatedNode::parse(BEFORE).unwrap()), Cell::new(0));
    let discovery = discover(&machine, Source::Nvml).unwrap();
    assert_eq!((machine.1.get(), discovery.problems.len()), (2, 0));
    assert_eq!(discovery.topology.mig_devices().count(), 1);
}
