//! A queue as a device works it.

use crate::chain::Chain;
use crate::{GuestMemoryMmap, Interrupt, Queue};
use std::sync::atomic::Ordering;
use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// One queue, borrowed from the transport for one [`Device::process`](crate::Device::process).
pub struct Ring<'a> {
    queue: &'a mut Queue,
    interrupt: &'a dyn Interrupt,
    state: State,
    /// Chains were completed since the driver was last told.
    owes_interrupt: bool,
    /// The ring said that there are chains, and none was popped since.
    promised: bool,
}

/// What may be done with a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All.
    Live,
    /// Nothing, now.
    Idle,
    /// Nothing any more: what is wrong is more than a chain.
    Broken,
}

impl<'a> Ring<'a> {
    /// A queue and how to tell its driver. A queue that is not ready is as good as empty.
    pub fn new(queue: &'a mut Queue, interrupt: &'a dyn Interrupt) -> Self {
        let state = if queue.ready() { State::Live } else { State::Idle };
        Self { queue, interrupt, state, owes_interrupt: false, promised: false }
    }

    /// A queue that looks empty to the device and is left alone, ready or not.
    pub fn idle(queue: &'a mut Queue, interrupt: &'a dyn Interrupt) -> Self {
        Self { state: State::Idle, ..Self::new(queue, interrupt) }
    }

    /// Whether the queue turned out to be unusable: its driver claims more chains than fit, or one
    /// could not be handed back. The device left it alone from there on.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Works through everything available, and what comes meanwhile, with one interrupt at the end.
    /// `serve` answers with the bytes it wrote into the chain; `None`: there was nothing to be done.
    pub(crate) fn work(
        &mut self,
        memory: &GuestMemoryMmap,
        mut serve: impl FnMut(&mut Chain<'_>) -> Option<u32>,
    ) {
        loop {
            self.disable_kicks(memory);
            while let Some(mut chain) = self.pop(memory) {
                let written = serve(&mut chain).unwrap_or(0);
                self.complete(memory, chain.head, written);
            }
            if !self.enable_kicks(memory) {
                break;
            }
        }
        self.notify(memory);
    }

    /// The next chain the driver made available. A malformed one is handed back at once, unused.
    pub(crate) fn pop<'m>(&mut self, memory: &'m GuestMemoryMmap) -> Option<Chain<'m>> {
        while self.state == State::Live {
            let descriptors = self.next(memory)?;
            self.promised = false;
            let head = descriptors.head_index();
            match Chain::collect(memory, descriptors) {
                Ok(chain) => return Some(chain),
                Err(_) => self.complete(memory, head, 0),
            }
        }
        None
    }

    fn next<'m>(&mut self, memory: &'m GuestMemoryMmap) -> Option<DescriptorChain<&'m GuestMemoryMmap>> {
        match self.queue.iter(memory) {
            Ok(mut chains) => chains.next(),
            Err(_) => {
                self.state = State::Broken;
                None
            }
        }
    }

    /// Puts the chain popped last back, to be popped again.
    pub(crate) fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Hands a chain back, `written` bytes of its writable part filled.
    pub(crate) fn complete(&mut self, memory: &GuestMemoryMmap, head: u16, written: u32) {
        let added = self.queue.add_used(memory, head, written);
        self.owes_interrupt |= added.is_ok();
        self.unless_broken(added);
    }

    /// Interrupts the driver if chains were completed and it wants to know: once per batch.
    pub(crate) fn notify(&mut self, memory: &GuestMemoryMmap) {
        let owed = std::mem::take(&mut self.owes_interrupt);
        if owed && self.wants_interrupt(memory) {
            // An interrupt that cannot be delivered has nobody waiting for it.
            let _ = self.interrupt.trigger();
        }
    }

    /// Whether the driver wants to know (virtio 1.2 section 2.7.7). Without an event index it says so by
    /// a flag, which `virtio-queue` leaves to others.
    fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> bool {
        let reached = self.queue.needs_notification(memory).unwrap_or(true);
        if self.queue.event_idx_enabled() {
            return reached;
        }
        let flags = memory.load(GuestAddress(self.queue.avail_ring()), Ordering::Relaxed).map(u16::from_le);
        flags.is_ok_and(|flags| u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// No need to be told of new chains while we look anyway.
    pub(crate) fn disable_kicks(&mut self, memory: &GuestMemoryMmap) {
        if self.state == State::Live {
            let disabled = self.queue.disable_notification(memory);
            self.unless_broken(disabled);
        }
    }

    /// Asks to be told of new chains; true when some came meanwhile and must be looked at first.
    ///
    /// A driver whose ring always claims chains that cannot be popped must not keep us busy: the
    /// claim is believed once.
    pub(crate) fn enable_kicks(&mut self, memory: &GuestMemoryMmap) -> bool {
        if self.state != State::Live {
            return false;
        }
        let enabled = self.queue.enable_notification(memory);
        let more = self.unless_broken(enabled).unwrap_or(false);
        let believed = more && !self.promised;
        self.promised = more;
        believed
    }

    fn unless_broken<T>(&mut self, result: Result<T, virtio_queue::Error>) -> Option<T> {
        if result.is_err() {
            self.state = State::Broken;
        }
        result.ok()
    }
}
