//! `cri DIR DEVICE [MAJOR:MINOR …]`: requests a container with a CDI device, by CRI, from the containerd whose socket
//! is in DIR, and prints the output of the probe in it.

use mig_cdi_tests::containerd::Containerd;
use std::{path::Path, process::exit};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let [dir, device, numbers @ ..] = &args[..] else { panic!("cri DIR DEVICE [MAJOR:MINOR …]") };
    let containerd = Containerd::at(Path::new(dir));
    containerd.until_image_is_ready();
    match containerd.probe(&[device], numbers) {
        Ok(output) => print!("{output}"),
        Err(why) => {
            eprintln!("{why}");
            exit(1);
        }
    }
}
