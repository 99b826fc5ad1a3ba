//! Assembles the toolbox, or renews its lock: `scripts/toolbox` has the words.

use kiln_store::Store;
use kiln_toolbox::{Event, Lock, Observer, Settings};
use std::error::Error;
use std::fs;
use std::path::PathBuf;

struct Terminal;

impl Observer for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(what) => eprintln!("toolbox: {what}"),
            Event::Fetching { packages, bytes } => {
                eprintln!("toolbox: fetching {packages} packages, {bytes} bytes")
            }
            Event::Unpacking { .. } => {}
        }
    }
}

/// `assemble CACHE LOCK`: prints the layer's path. `lock CACHE LOCK`: prints the lock renewed.
fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [command, cache, lock] = &arguments[..] else {
        return Err("expected: assemble|lock CACHE LOCK".into());
    };
    let lock: Lock = fs::read_to_string(lock)?.parse()?;
    let mirror = std::env::var("KILN_TOOLBOX_MIRROR").ok().filter(|mirror| !mirror.is_empty());
    let settings = Settings { cache: PathBuf::from(cache), mirror, lock };
    if command == "lock" {
        print!("{}", kiln_toolbox::renew(&settings, &Terminal)?);
        return Ok(());
    }
    let store = Store::open(&settings.cache)?;
    let image = match kiln_toolbox::assemble(&store, &settings, &Terminal) {
        Err(error) if error.is_not_offered() => {
            eprintln!("toolbox: {error}");
            std::process::exit(3);
        }
        assembled => assembled?,
    };
    for layer in &image.layers {
        println!("{}", store.path().join("layers").join(format!("{}.tar", layer.diff_id.hex())).display());
    }
    Ok(())
}

fn main() {
    let Err(error) = run() else { return };
    eprint!("toolbox: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprint!(": {error}");
        cause = error.source();
    }
    eprintln!();
    std::process::exit(1);
}
