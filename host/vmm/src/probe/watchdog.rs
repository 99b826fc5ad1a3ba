//! A guest that does not come back is fetched back.
//!
//! The guest runs in a thread of its own. When its time is over, signals interrupt `KVM_RUN`, and the
//! thread sees that it is late. One signal could come just before `KVM_RUN` and be lost, so there are
//! several.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// From one signal to the next.
const KICK_INTERVAL: Duration = Duration::from_millis(20);

/// How many before it is given up: then KVM itself hangs.
const KICKS_MAX: u32 = 25;

/// Runs `guest` in a thread and interrupts the system calls it waits in from `deadline` on. It must then
/// come to an end by itself; `None` when it does not.
pub fn run<T: Send + 'static>(
    deadline: Instant,
    guest: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, std::io::Error> {
    register_signal_handler(SIGRTMIN(), interrupt)
        .map_err(|error| std::io::Error::from_raw_os_error(error.errno()))?;
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(move || {
        // Nobody waits for it any more when it comes too late.
        let _ = sender.send(guest());
    })?;
    Ok(wait(&receiver, deadline).or_else(|| kick(&thread, &receiver)))
}

fn wait<T>(receiver: &Receiver<T>, deadline: Instant) -> Option<T> {
    receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
}

fn kick<T>(thread: &JoinHandle<()>, receiver: &Receiver<T>) -> Option<T> {
    for _ in 0..KICKS_MAX {
        // It may be gone already; then its result is there.
        let _ = thread.kill(SIGRTMIN());
        match receiver.recv_timeout(KICK_INTERVAL) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

/// Only so that there is a handler: it is the system call's end that counts.
extern "C" fn interrupt(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_in_time_comes_at_once() {
        let begin = Instant::now();
        assert_eq!(run(begin + Duration::from_secs(60), || 7).unwrap(), Some(7));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_system_call_is_interrupted_at_the_deadline() {
        let begin = Instant::now();
        let wait_for_ever = || rustix::event::poll(&mut [], None).unwrap_err();
        let result = run(begin + Duration::from_millis(50), wait_for_ever).unwrap();
        assert_eq!(result, Some(rustix::io::Errno::INTR));
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_does_not_come_back_is_given_up() {
        let sleep = || std::thread::sleep(Duration::from_secs(3600));
        assert_eq!(run(Instant::now(), sleep).unwrap(), None);
    }
}
