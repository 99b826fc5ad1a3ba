//! The thread of a device: sleeps until its driver or the outside world wants something.

use crate::bus::Attached;
use crate::channel::Report;
use crate::control::Control;
use crate::counters::Meter;
use kiln_devices::{GuestMemoryMmap, Storage};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// See the module.
pub struct Worker {
    attached: Attached,
    poller: Epoll,
    /// Kept open for the poller.
    _wake: Option<OwnedFd>,
    memory: GuestMemoryMmap,
    meter: Arc<Meter>,
    pub disk: Option<Disk>,
}

/// Where a disk's errors are noticed, and told.
pub struct Disk {
    pub index: usize,
    pub storage: Arc<dyn Storage>,
    pub control: Arc<Control>,
    pub told: Option<i32>,
}

/// What the poller says when it is no queue.
const WAKE: u64 = u64::MAX;

impl Worker {
    /// # Errors
    /// When the host has no poller for us.
    pub fn new(attached: Attached, memory: GuestMemoryMmap, meter: Arc<Meter>) -> io::Result<Self> {
        let poller = Epoll::new()?;
        let watch = |descriptor, events, name| {
            poller.ctl(ControlOperation::Add, descriptor, EpollEvent::new(events, name))
        };
        for (queue, kick) in (0..).zip(&attached.kicks) {
            watch(kick.as_raw_fd(), EventSet::IN, queue)?;
        }
        let wake = attached.transport.wake()?;
        if let Some(wake) = &wake {
            // Edge by edge: while the driver is away, nothing is done about what is there to be done.
            watch(wake.as_raw_fd(), EventSet::IN | EventSet::EDGE_TRIGGERED, WAKE)?;
        }
        Ok(Self { attached, poller, _wake: wake, memory, meter, disk: None })
    }

    /// The device type, which tells what its thread needs.
    pub fn device_type(&self) -> u32 {
        self.attached.transport.device_type()
    }

    /// Works until the process ends.
    pub fn run(mut self) {
        loop {
            if self.wait() {
                self.attached.transport.work(&self.memory);
                self.disk.iter_mut().for_each(Disk::tell);
            }
        }
    }

    /// True when there is work. However many queues were kicked, and however often, it is one call.
    fn wait(&self) -> bool {
        let mut events = [EpollEvent::default(); 8];
        // Interrupted: nothing has happened.
        let count = self.poller.wait(-1, &mut events).unwrap_or(0);
        for event in &events[..count] {
            let queue = usize::try_from(event.data()).unwrap_or(usize::MAX);
            if let Some(kick) = self.attached.kicks.get(queue) {
                self.meter.kicks.add();
                let _ = kick.read();
            }
        }
        count > 0
    }
}

impl Disk {
    fn tell(&mut self) {
        let errno = self.storage.host_error().and_then(|error| error.raw_os_error());
        if let Some(errno) = errno.filter(|errno| self.told != Some(*errno)) {
            self.told = Some(errno);
            self.control.report(&Report::HostError { disk: self.index, errno });
        }
    }
}
