//! Devices behind I/O ports: the serial port, and the keyboard controller's reset line.

use crate::layout::{I8042_COMMAND_PORT, I8042_DATA_PORT, SERIAL_PORT, SERIAL_PORT_COUNT};
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vm_superio::serial::NoEvents;
use vm_superio::{I8042Device, Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

/// Bytes of an unfinished line that are passed on nevertheless.
const LINE_BYTES_MAX: usize = 512;

/// All ports of a machine, for all its processors.
pub struct Ports<W: Write> {
    serial: Mutex<Serial<Event, NoEvents, Lines<W>>>,
    i8042: Mutex<I8042Device<Event>>,
}

/// What a port access leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing else.
    None,
    /// The machine is to be restarted.
    Reset,
}

impl<W: Write> Ports<W> {
    /// What is written to the serial port goes to `console`; `serial_interrupt` is its line.
    pub fn new(serial_interrupt: EventFd, console: W) -> io::Result<Self> {
        let lines = Lines { bytes: Vec::with_capacity(LINE_BYTES_MAX), to: console };
        let reset = EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?;
        Ok(Self {
            serial: Mutex::new(Serial::new(Event(serial_interrupt), lines)),
            i8042: Mutex::new(I8042Device::new(Event(reset))),
        })
    }

    /// Reads at `port`. What is not there reads as all ones, as on real buses.
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        let [byte] = data else { return };
        if let Some(register) = serial_register(port) {
            *byte = lock(&self.serial).read(register);
        } else if let Some(register) = i8042_register(port) {
            *byte = lock(&self.i8042).read(register);
        }
    }

    /// Writes at `port`. What is not there takes it in silence.
    pub fn write(&self, port: u16, data: &[u8]) -> Effect {
        let [byte] = *data else { return Effect::None };
        if let Some(register) = serial_register(port) {
            // An interrupt or a console that cannot be delivered has nobody waiting for it.
            let _ = lock(&self.serial).write(register, byte);
        } else if let Some(register) = i8042_register(port) {
            let mut i8042 = lock(&self.i8042);
            let _ = i8042.write(register, byte);
            if i8042.reset_evt().0.read().is_ok() {
                return Effect::Reset;
            }
        }
        Effect::None
    }

    /// Passes on what is left of the console.
    pub fn finish(&self) {
        lock(&self.serial).writer_mut().pass_on();
    }
}

fn serial_register(port: u16) -> Option<u8> {
    let offset = port.checked_sub(SERIAL_PORT).filter(|offset| *offset < SERIAL_PORT_COUNT)?;
    u8::try_from(offset).ok()
}

fn i8042_register(port: u16) -> Option<u8> {
    match port {
        I8042_DATA_PORT | I8042_COMMAND_PORT => u8::try_from(port - I8042_DATA_PORT).ok(),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event that `vm-superio` triggers.
struct Event(EventFd);

impl Trigger for Event {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// Passes on whole lines: one system call each instead of one per byte.
struct Lines<W: Write> {
    bytes: Vec<u8>,
    to: W,
}

impl<W: Write> Lines<W> {
    fn pass_on(&mut self) {
        // A console that nobody reads must not stop the guest.
        let _ = self.to.write_all(&self.bytes).and_then(|()| self.to.flush());
        self.bytes.clear();
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.ends_with(b"\n") || self.bytes.len() >= LINE_BYTES_MAX {
            self.pass_on();
        }
        Ok(bytes.len())
    }

    /// The serial port flushes after every byte.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports<Vec<u8>> {
        Ports::new(EventFd::new(0).unwrap(), Vec::new()).unwrap()
    }

    fn console(ports: &Ports<Vec<u8>>) -> String {
        String::from_utf8(lock(&ports.serial).writer().to.clone()).unwrap()
    }

    #[test]
    fn the_console_comes_in_lines_and_what_is_left_at_the_end() {
        let ports = ports();
        for byte in b"one\ntwo" {
            assert_eq!(ports.write(SERIAL_PORT, &[*byte]), Effect::None);
        }
        assert_eq!(console(&ports), "one\n");
        ports.finish();
        assert_eq!(console(&ports), "one\ntwo");
    }

    #[test]
    fn only_the_reset_command_resets() {
        let ports = ports();
        for (port, data, effect) in [
            (I8042_COMMAND_PORT, &[0xfe][..], Effect::Reset),
            (I8042_COMMAND_PORT, &[0xd1], Effect::None),
            (I8042_DATA_PORT, &[0xfe], Effect::None),
            (I8042_COMMAND_PORT, &[0xfe, 0], Effect::None),
            (0x70, &[0xfe], Effect::None),
        ] {
            assert_eq!(ports.write(port, data), effect, "{port:#x} {data:x?}");
        }
    }

    #[test]
    fn what_is_not_there_reads_as_all_ones() {
        let ports = ports();
        for (port, width) in [(0x70, 1), (0xcf8, 4), (SERIAL_PORT, 2), (SERIAL_PORT + SERIAL_PORT_COUNT, 1)] {
            let mut data = vec![0; width];
            ports.read(port, &mut data);
            assert_eq!(data, vec![0xff; width], "{port:#x}");
        }
    }

    #[test]
    fn the_serial_port_is_ready_for_more() {
        let mut status = [0];
        ports().read(SERIAL_PORT + 5, &mut status);
        assert_eq!(status[0] & 0x60, 0x60, "transmitter empty");
    }
}
