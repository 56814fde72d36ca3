//! `ldcache`: an OCI hook that makes the loader of a container find the driver's libraries. Runs no program and changes no
//! file: a cache that lists them is mounted over the image's. NVIDIA's tools run ldconfig here, on files of the image
//! (CVE-2025-23267).

use super::output::{dry_run, log_refusal};
use crate::{
    cli::LdcacheOptions,
    error::{Error, Result},
    oci_config::{LIMIT, OciConfig},
    state::ContainerState,
};
use mig_cdi_sys::{
    Bundle, Container, KeepCaps, Log, isolate,
    ldcache::{self, CacheEntry},
};
use serde::Serialize;
use std::{io, path::Path};

const MODE: &str = "ldcache";
const CACHE: &str = "/etc/ld.so.cache";

/// Size limit in bytes, ten times the cache of a large desktop. The mounted copy stays in memory as long as the
/// container runs.
const CACHE_LIMIT: usize = 2 << 20;

pub(super) fn run(options: &LdcacheOptions) -> Result<String> {
    isolate(KeepCaps::Mount)?;
    if options.dry_run {
        return dry_run_output(options);
    }
    // For the log, which is written outside of the closure: a state that cannot be read has no id.
    let mut id = String::new();
    let done = ContainerState::read(io::stdin().lock()).and_then(|state| {
        id = state.id;
        mount_cache(Path::new(&state.bundle), options)
    });
    match done {
        Ok(()) => Ok(String::new()),
        Err(error) => {
            log_refusal(&Log::open(None), MODE, &id, &error);
            Err(error)
        }
    }
}

fn mount_cache(bundle: &Path, options: &LdcacheOptions) -> Result<()> {
    let bytes = Bundle::open(bundle)?.read(LIMIT)?;
    let root = OciConfig::parse(&bytes)?.root_path(bundle)?;
    let libraries: Vec<_> = options.names.iter().map(|name| entry(&options.dir, name)).collect();
    let mut container = Container::inside(&root)?;
    let done = container.bind_over(CACHE, CACHE_LIMIT, |old| {
        ldcache::merge(old, &libraries).map_err(|cause| {
            Error::refused("read the container's", CACHE, cause).with_cure(
                "run ldconfig when the image is built, or generate the spec without --ldcache-hook",
            )
        })
    });
    done.map_err(|error: Error| error.after_undo(container.undo()))
}

fn entry(dir: &str, name: &str) -> CacheEntry {
    let path = format!("{dir}/{name}");
    CacheEntry { flags: ldcache::NATIVE, name: name.to_owned(), path }
}

fn dry_run_output(options: &LdcacheOptions) -> Result<String> {
    #[derive(Serialize)]
    struct Content<'p> {
        dir: &'p str,
        libraries: &'p [String],
    }
    dry_run(MODE, Content { dir: &options.dir, libraries: &options.names })
}
