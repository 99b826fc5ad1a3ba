//! The threads of a machine: all are jailed before the first guest instruction, and one ends it all.

use crate::bus::Bus;
use crate::channel::Ending;
use crate::control::Control;
use crate::error::{Error, Kind};
use crate::filters;
use crate::vcpu::{self, Surroundings};
use crate::worker::Worker;
use kiln_jail::Filter;
use kvm_ioctls::VcpuFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

/// Holds the processors back until every thread has given up its rights.
#[derive(Default)]
pub struct Gate {
    state: Mutex<Threads>,
    changed: Condvar,
}

#[derive(Default)]
struct Threads {
    started: usize,
    jailed: usize,
    failure: Option<kiln_jail::Error>,
    open: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Threads> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that jails itself first.
    fn start(
        self: &Arc<Self>,
        name: String,
        filter: Filter,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Error> {
        let gate = self.clone();
        self.lock().started += 1;
        let jailed = move || {
            let installed = filter.install();
            let mut state = gate.lock();
            match installed {
                Ok(()) => state.jailed += 1,
                Err(error) => state.failure = Some(error),
            }
            gate.changed.notify_all();
            while !state.open {
                state = gate.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            drop(state);
            drop(gate);
            work();
        };
        thread::Builder::new().name(name).spawn(jailed).map_err(Kind::setup("a thread"))?;
        Ok(())
    }

    /// # Errors
    /// When a thread could not give up its rights.
    pub fn wait_until_all_are_jailed(&self) -> Result<(), Error> {
        let waiting = |state: &mut Threads| state.failure.is_none() && state.jailed < state.started;
        let waited = self.changed.wait_while(self.lock(), waiting);
        match waited.unwrap_or_else(PoisonError::into_inner).failure.take() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }

    /// Lets all of them work.
    pub fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }
}

/// One thread per device.
pub fn start_workers(workers: Vec<Worker>, gate: &Arc<Gate>) -> Result<(), Error> {
    for (index, worker) in workers.into_iter().enumerate() {
        let filter = filters::device(worker.device_type())?;
        gate.start(format!("device{index}"), filter, || worker.run())?;
    }
    Ok(())
}

/// One thread per processor.
pub fn start_processors(
    processors: Vec<VcpuFd>,
    surroundings: &Arc<Surroundings>,
    end: &Arc<End>,
    gate: &Arc<Gate>,
) -> Result<(), Error> {
    for (index, mut vcpu) in processors.into_iter().enumerate() {
        let (surroundings, end) = (surroundings.clone(), end.clone());
        let work = move || end.reach(vcpu::run(&mut vcpu, &surroundings));
        gate.start(format!("vcpu{index}"), filters::vcpu()?, work)?;
    }
    Ok(())
}

/// How the machine ended, as soon as it has.
pub struct End {
    ending: Mutex<Option<Ending>>,
    reached: EventFd,
}

impl End {
    /// # Errors
    /// When the host has no event for us.
    pub fn new() -> io::Result<Self> {
        let reached = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self { ending: Mutex::default(), reached })
    }

    /// The first word counts.
    fn reach(&self, ending: Ending) {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(ending);
        // It counts to more than anybody ever will.
        let _ = self.reached.write(1);
    }

    /// Waits for the end; `None` when kiln is gone, who alone wants to know.
    pub fn wait(&self, control: &Control) -> Option<Ending> {
        let events = self.events(control).ok()?;
        events.wait(FOREVER);
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn events(&self, control: &Control) -> io::Result<Events> {
        Events::of([self.reached.as_raw_fd(), control.as_fd().as_raw_fd()])
    }
}

/// Waits until the devices have passed on what the guest said last, or kiln is gone.
pub fn linger(bus: &Bus, control: &Control) {
    let Ok(kiln_gone) = Events::of([control.as_fd().as_raw_fd()]) else { return };
    // Their threads are at it. There is no event for this, as it is over in no time or for good.
    while bus.has_unsent() && !kiln_gone.wait(LINGER_MS) {}
}

const FOREVER: i32 = -1;
const LINGER_MS: i32 = 10;

/// Some descriptors, any of which ends a wait.
struct Events(Epoll);

impl Events {
    fn of<const COUNT: usize>(descriptors: [RawFd; COUNT]) -> io::Result<Self> {
        let poller = Epoll::new()?;
        for descriptor in descriptors {
            let event = EpollEvent::new(EventSet::IN | EventSet::READ_HANG_UP, 0);
            poller.ctl(ControlOperation::Add, descriptor, event)?;
        }
        Ok(Self(poller))
    }

    /// False when only time has passed.
    fn wait(&self, timeout_ms: i32) -> bool {
        let mut events = [EpollEvent::default(); 1];
        loop {
            match self.0.wait(timeout_ms, &mut events) {
                Ok(count) => return count > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}
