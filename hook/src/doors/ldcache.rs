//! Tells the loader of a container where the driver's libraries are. Runs no program, and changes no
//! file: a cache that knows them is mounted over the image's.

use super::{json, root};
use crate::{
    Failure,
    cli::Ldcache,
    config::{Config, LIMIT},
    state::State,
};
use mig_cdi_sys::{
    Bundle, Container, KeepCaps, Log, LogLevel, isolate,
    ldcache::{self, CacheEntry},
};
use serde::Serialize;
use std::{io, path::Path};

const CACHE: &str = "/etc/ld.so.cache";

/// Ten times the cache of a large desktop. It stays in memory as long as the container does.
const CACHE_LIMIT: usize = 2 << 20;

pub(super) fn run(options: &Ldcache) -> Result<String, Failure> {
    isolate(KeepCaps::Mount)?;
    if options.dry_run {
        return printed(options);
    }
    let mut id = String::new();
    let done = State::read(io::stdin().lock()).and_then(|state| {
        id = state.id;
        cover(Path::new(&state.bundle), options)
    });
    if let Err(failure) = &done {
        let line = format!("ldcache: container {id:?} is refused: {failure}");
        Log::open(None).line(LogLevel::Error, &line);
    }
    done.map(|()| String::new())
}

fn cover(bundle: &Path, options: &Ldcache) -> Result<(), Failure> {
    let bytes = Bundle::open(bundle)?.read(LIMIT)?;
    let root = root(bundle, &Config::parse(&bytes)?.root)?;
    let libraries: Vec<_> = options.names.iter().map(|name| entry(&options.dir, name)).collect();
    let mut container = Container::inside(&root)?;
    let done = container.bind_over(CACHE, CACHE_LIMIT, |old| {
        ldcache::merge(old, &libraries).map_err(|why| {
            Failure::refused(format!(
                "read {CACHE} of the container: {why}; run ldconfig when the image is built, or leave \
                 --ldcache-hook out"
            ))
        })
    });
    done.map_err(|failure: Failure| failure.after(container.undo()))
}

fn entry(dir: &str, name: &str) -> CacheEntry {
    let path = format!("{dir}/{name}");
    CacheEntry { flags: ldcache::NATIVE, name: name.to_owned(), path }
}

fn printed(options: &Ldcache) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Print<'p> {
        door: &'static str,
        dir: &'p str,
        libraries: &'p [String],
    }
    json(&Print { door: "ldcache", dir: &options.dir, libraries: &options.names })
}
