//! Counts what a machine costs, from all threads.

use crate::channel::Counters;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug)]
pub struct Meter {
    ordered: Instant,
    entered: OnceLock<Instant>,
    pub exits: Count,
    pub port_exits: Count,
    pub mmio_exits: Count,
    pub kicks: Count,
    pub interrupts: Count,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Meter {
    /// The order has just come.
    pub fn start() -> Self {
        Self {
            ordered: Instant::now(),
            entered: OnceLock::new(),
            exits: Count::default(),
            port_exits: Count::default(),
            mmio_exits: Count::default(),
            kicks: Count::default(),
            interrupts: Count::default(),
        }
    }

    /// The guest is about to start.
    pub fn enter(&self) {
        let _ = self.entered.set(Instant::now());
    }

    /// As it stands.
    pub fn read(&self) -> Counters {
        let entered = self.entered.get();
        Counters {
            start_us: microseconds(entered.map_or(Duration::ZERO, |entered| *entered - self.ordered)),
            run_us: microseconds(entered.map_or(Duration::ZERO, Instant::elapsed)),
            exits: self.exits.get(),
            port_exits: self.port_exits.get(),
            mmio_exits: self.mmio_exits.get(),
            kicks: self.kicks.get(),
            interrupts: self.interrupts.get(),
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
