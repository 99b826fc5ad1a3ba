//! Our own guest (`tests/guest`) drives every device, well and badly, with its own drivers. What a scenario
//! does is described there; here is the host's side of it, for every engine.

mod guest;
mod machine;

use kiln_engine::qemu::Qemu;
use machine::{Engine, Run};

/// A test for each engine.
macro_rules! on_engines {
    ($($name:ident),*) => {
        mod qemu {
            $(#[test] fn $name() { super::$name(&super::qemu_engine()) })*
        }
    };
}

on_engines!(disks_are_read);

fn qemu_engine() -> Engine {
    Engine(Box::new(Qemu::from_environment()))
}

fn disks_are_read(engine: &Engine) {
    Run::of(engine, &["block_read"]).passes();
}
