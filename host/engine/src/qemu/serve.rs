//! Serving a device to QEMU over vhost-user, from threads of this process
//! ([protocol](https://www.qemu.org/docs/master/interop/vhost-user.html)).

use crate::Error;
use crate::error::Kind;
use kiln_devices::{Device, GuestMemoryMmap, Interrupt, Ring};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringMutex, VringT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// What QEMU's virtio-mmio tells every driver, whatever the device would like
/// (`VIRTQUEUE_MAX_SIZE`), and Linux takes all it can have.
const QUEUE_SIZE_MAX: usize = 1024;

/// A device being served; dropping it waits for its threads, which end when QEMU is gone.
pub(super) struct Served {
    backend: Arc<Backend>,
    daemon: VhostUserDaemon<Arc<Backend>>,
}

impl Served {
    /// Serves `device` to whom `listener` has in its queue.
    pub fn start(device: Box<dyn Device>, listener: UnixListener) -> Result<Self, Error> {
        let failed = |error: vhost_user_backend::Error| Kind::Serve(error.to_string());
        let backend = Arc::new(Backend::new(device));
        let name = format!("virtio-{}", backend.device().device_type());
        let memory = Memory::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new(name, backend.clone(), memory).map_err(failed)?;
        backend.watch_wake(&daemon).map_err(|error| Kind::Setup("a device's events", error))?;
        daemon.start(&mut Listener::from(listener)).map_err(failed)?;
        Ok(Self { backend, daemon })
    }

    /// For when QEMU has ended: passes on the guest's last words, and that they were the last.
    pub fn at_end(&self) -> impl FnOnce() + Send + use<> {
        let backend = self.backend.clone();
        move || {
            backend.drain();
            backend.device().driver_gone();
        }
    }
}

impl Served {
    /// Says whether the guest's driver has asked for anything yet.
    pub fn worked(&self) -> impl Fn() -> bool + Send + use<> {
        let backend = self.backend.clone();
        move || backend.vrings.get().is_some()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.daemon.request_shutdown();
        // How the connection ended is of no interest: QEMU's end is reported by who watches it.
        let _ = self.daemon.wait();
    }
}

/// What `vhost-user-backend` calls.
struct Backend {
    device: Mutex<Box<dyn Device>>,
    memory: Mutex<Memory>,
    /// Known from the first event on.
    vrings: OnceLock<Vec<VringMutex>>,
    /// A queue was stopped since the driver chose features: what comes next is another start.
    stopped: AtomicBool,
}

impl Backend {
    fn new(device: Box<dyn Device>) -> Self {
        let memory = Memory::new(GuestMemoryMmap::new());
        Self {
            device: Mutex::new(device),
            memory: Mutex::new(memory),
            vrings: OnceLock::new(),
            stopped: AtomicBool::new(false),
        }
    }

    fn device(&self) -> MutexGuard<'_, Box<dyn Device>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread that serves the queues also see what comes from outside.
    fn watch_wake(&self, daemon: &VhostUserDaemon<Arc<Self>>) -> io::Result<()> {
        let device = self.device();
        let Some(wake) = device.wake() else { return Ok(()) };
        // Numbers up to that of the queues are taken by the queues and the exit event.
        let event = device.queue_sizes().len() as u64 + 1;
        for handler in daemon.get_epoll_handlers() {
            handler.register_listener(wake.as_raw_fd(), EventSet::IN, event)?;
        }
        Ok(())
    }
}

impl Backend {
    /// Lets the device do all it can.
    fn work(&self, vrings: &[VringMutex]) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner).memory();
        let interrupts: Vec<Deferred> = vrings.iter().map(|_| Deferred::default()).collect();
        let mut states: Vec<_> = vrings.iter().map(|vring| vring.get_mut()).collect();
        let borrowed = states.iter_mut().zip(&interrupts);
        let mut rings: Vec<_> =
            borrowed.map(|(state, interrupt)| Ring::new(state.get_queue_mut(), interrupt)).collect();
        self.device().process(&memory, &mut rings);
        drop(rings);
        for (state, interrupt) in states.iter().zip(interrupts) {
            if interrupt.0.into_inner() {
                // When QEMU is gone, nobody waits for it.
                let _ = state.signal_used_queue();
            }
        }
    }

    /// Does what was asked for before the end, as a guest need not wait before it switches off.
    fn drain(&self) {
        if let Some(vrings) = self.vrings.get() {
            self.work(vrings);
        }
    }
}

/// An interrupt asked for while the queue is borrowed, to be sent afterwards.
#[derive(Default)]
struct Deferred(AtomicBool);

impl Interrupt for Deferred {
    fn trigger(&self) -> io::Result<()> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        self.device().queue_sizes().len()
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE_MAX
    }

    fn features(&self) -> u64 {
        self.device().features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    /// QEMU does not pass on a driver's reset, only that the queues stop. What was said by then is
    /// still passed on, as it may have been the guest's last; when a driver starts again, the device
    /// does, too.
    fn acked_features(&self, features: u64) {
        let mut device = self.device();
        if self.stopped.swap(false, Ordering::Relaxed) {
            device.reset();
        }
        device.accept_features(features);
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG | VhostUserProtocolFeatures::MQ
    }

    fn reset_device(&self) {
        self.device().reset();
    }

    /// The queues were told already.
    fn set_event_idx(&self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let device = self.device();
        let from = device.config().iter().skip(offset as usize).copied();
        from.chain(std::iter::repeat(0)).take(size as usize).collect()
    }

    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        Ok(())
    }

    /// Without one, the thread of the queues would never end.
    fn exit_event(&self, _thread_index: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC | EventFlag::NONBLOCK).ok()
    }

    /// The queue was declared not ready just before; what it still holds is the guest's, too.
    fn stop_vring(&self, index: u32) -> io::Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(vring) = self.vrings.get().and_then(|vrings| vrings.get(index as usize)) {
            vring.set_queue_ready(true);
            self.drain();
            vring.set_queue_ready(false);
        }
        Ok(())
    }

    fn handle_event(
        &self,
        _event: u16,
        _set: EventSet,
        vrings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        self.work(self.vrings.get_or_init(|| vrings.to_vec()));
        Ok(())
    }
}
