//! The tools that disks are made with.

use crate::installation;
use anyhow::{Context, Result};
use kiln_builder::{Interrupt, Toolbox};
use kiln_store::Store;
use kiln_toolbox::{Event, Lock, Settings, assemble};
use std::{env, path::PathBuf};

/// Another list of packages.
const LOCK_VARIABLE: &str = "KILN_TOOLBOX_LOCK";
/// Another archive of Debian.
const MIRROR_VARIABLE: &str = "KILN_TOOLBOX_MIRROR";

/// kiln's own, made when it is first needed.
pub fn of(store: &Store) -> Toolbox {
    let store = store.clone();
    Toolbox(Box::new(move |observer, interrupt| {
        let settings = settings().map_err(|error| format!("{error:#}"))?;
        Ok(assemble(&store, &settings, &Relay { observer, interrupt })?)
    }))
}

fn settings() -> Result<Settings> {
    let mut settings = Settings::new(installation::cache_dir());
    settings.mirror = env::var(MIRROR_VARIABLE).ok().filter(|mirror| !mirror.is_empty());
    if let Some(path) = env::var_os(LOCK_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) {
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{LOCK_VARIABLE}: {}", path.display()))?;
        settings.lock =
            text.parse::<Lock>().with_context(|| format!("{LOCK_VARIABLE}: {}", path.display()))?;
    }
    Ok(settings)
}

struct Relay<'a> {
    observer: &'a dyn kiln_builder::Observer,
    interrupt: &'a Interrupt,
}

impl kiln_toolbox::Observer for Relay<'_> {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Phase(text) => text.to_owned(),
            Event::Fetching { packages, bytes } => {
                format!("fetching {packages} packages of the toolbox, {} MiB", bytes.div_ceil(1 << 20))
            }
            Event::Unpacking { .. } => return,
        };
        self.observer.event(kiln_builder::Event::Phase(&text));
    }

    fn is_interrupted(&self) -> bool {
        self.interrupt.reason().is_some()
    }
}
