//! Ends a build from outside: a signal, or its time is up.

use kiln_engine::Killer;
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Why a build was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// kiln received this signal.
    Signal(i32),
    /// `--timeout` passed.
    Timeout(Duration),
    /// What a step writes can no longer be written to kiln's own output.
    Output(io::ErrorKind),
}

/// A switch that is thrown at most once. Clones are the same switch.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    machine: Option<Killer>,
    /// The work is over: nothing is left to interrupt.
    finished: bool,
}

impl Interrupt {
    /// Ends the running machine, and every one started later. The first reason stays.
    pub fn trigger(&self, reason: Reason) {
        let mut state = self.lock();
        state.reason.get_or_insert(reason);
        if let Some(killer) = &state.machine {
            killer.kill();
        }
        self.0.1.notify_all();
    }

    /// The reason, once triggered.
    pub fn reason(&self) -> Option<Reason> {
        self.lock().reason
    }

    /// Triggers after `timeout`, unless [`finish`](Self::finish) comes first.
    pub fn trigger_after(&self, timeout: Duration) {
        let interrupt = self.clone();
        thread::spawn(move || {
            let (_, finished) = &*interrupt.0;
            let state = interrupt.lock();
            let waited = finished.wait_timeout_while(state, timeout, |state| !state.finished);
            let (state, result) = waited.unwrap_or_else(PoisonError::into_inner);
            drop(state);
            if result.timed_out() {
                interrupt.trigger(Reason::Timeout(timeout));
            }
        });
    }

    /// Waits until it is triggered.
    pub fn wait(&self) -> Reason {
        let mut state = self.lock();
        loop {
            if let Some(reason) = state.reason {
                return reason;
            }
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The work is over; a timeout no longer matters.
    pub fn finish(&self) {
        self.lock().finished = true;
        self.0.1.notify_all();
    }

    /// From now on this machine is killed when triggered; at once if that was before.
    pub(crate) fn guard(&self, killer: Killer) {
        let mut state = self.lock();
        if state.reason.is_some() {
            killer.kill();
        }
        state.machine = Some(killer);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
