//! Where the threads of a machine leave word for those who wait: who connected, and how it ended.

use crate::error::Kind;
use crate::{Counters, Error, Exit};
use kiln_devices::Listener;
use rustix::net::sockopt;
use std::collections::{HashMap, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Streams that may wait to be accepted on one port.
const BACKLOG: usize = 16;

/// Room of a stream between device and consumer, in bytes; the kernel may give less.
const STREAM_BYTES: usize = 4 * 1024 * 1024;

/// See the module.
pub(crate) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Accepted by the device, waiting for the consumer; the keys are the open ports.
    arrivals: HashMap<u32, VecDeque<UnixStream>>,
    /// What it took until the first did.
    counters: Option<Counters>,
    ended: Option<Exit>,
}

impl Board {
    pub fn new(ports: &[u32]) -> Arc<Self> {
        let arrivals = ports.iter().map(|port| (*port, VecDeque::new())).collect();
        Arc::new(Self {
            state: Mutex::new(State { arrivals, counters: None, ended: None }),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A guest connects: gives the guest's end, and the other to whoever accepts.
    pub fn arrive(&self, port: u32) -> Option<UnixStream> {
        let (guest, host) = UnixStream::pair().ok()?;
        // More room only saves waiting; whatever the kernel gives is right.
        let _ = sockopt::set_socket_send_buffer_size(&guest, STREAM_BYTES);
        let _ = sockopt::set_socket_send_buffer_size(&host, STREAM_BYTES);
        self.hand_in(port, host, None).then_some(guest)
    }

    /// A guest connected: `stream` waits to be accepted. False, and it is closed, when nobody may
    /// connect there, or too many wait already.
    pub fn hand_in(&self, port: u32, stream: UnixStream, counters: Option<Counters>) -> bool {
        let mut state = self.lock();
        if state.ended.is_some() {
            return false;
        }
        let waiting = state.arrivals.get_mut(&port).filter(|waiting| waiting.len() < BACKLOG);
        let Some(waiting) = waiting else { return false };
        waiting.push_back(stream);
        state.counters = state.counters.or(counters);
        self.changed.notify_all();
        true
    }

    /// What it took until the first stream arrived, if that was said with it.
    pub fn counters(&self) -> Option<Counters> {
        self.lock().counters
    }

    /// The machine has ended; only the first word counts.
    pub fn end(&self, exit: Exit) {
        self.lock().ended.get_or_insert(exit);
        self.changed.notify_all();
    }

    /// The next stream of `port`. A machine that ended after it connected is the reader's affair.
    pub fn accept(
        &self,
        port: u32,
        deadline: Instant,
        console: impl FnOnce() -> String,
    ) -> Result<UnixStream, Error> {
        let mut state = self.lock();
        loop {
            let waiting = state.arrivals.get_mut(&port).ok_or(Kind::UnknownPort(port))?;
            if let Some(stream) = waiting.pop_front() {
                return Ok(stream);
            }
            if let Some(exit) = state.ended.clone() {
                if let Exit::Unusable(why) = exit {
                    return Err(Kind::Unusable(why).into());
                }
                return Err(Kind::Ended { port, exit, console: console() }.into());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Kind::NoConnection { port, console: console() }.into());
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How the machine ended, or `None` at the deadline.
    pub fn wait(&self, deadline: Instant) -> Option<Exit> {
        let left = deadline.saturating_duration_since(Instant::now());
        let running = |state: &mut State| state.ended.is_none();
        let waited = self.changed.wait_timeout_while(self.lock(), left, running);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended.clone()
    }
}

/// The ports that a vsock device may connect to.
pub(crate) struct Ports(pub Arc<Board>);

impl Listener for Ports {
    fn connect(&mut self, port: u32) -> Option<UnixStream> {
        self.0.arrive(port)
    }
}

/// Kills a machine, from any thread, any number of times, also when it has long ended.
#[derive(Clone)]
pub struct Killer(Arc<dyn Fn() + Send + Sync>);

impl Killer {
    pub(crate) fn new(kill: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(kill))
    }

    /// Does not wait for the end.
    pub fn kill(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Killer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Killer")
    }
}
