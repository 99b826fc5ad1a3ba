//! The first serial port (16550), for what the host is to know.

use crate::port;
use core::fmt::{self, Write};

/// Its registers: data, and line status with the bit for "room for a byte".
const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = DATA + 5;
const TRANSMITTER_EMPTY: u8 = 0x20;

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::serial::print_line(format_args!($($argument)*)) };
}

/// See [`println`].
pub fn print_line(line: fmt::Arguments<'_>) {
    // The port takes everything.
    let _ = writeln!(Serial, "{line}");
}

struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(write_byte);
        Ok(())
    }
}

fn write_byte(byte: u8) {
    while port::read_u8(LINE_STATUS) & TRANSMITTER_EMPTY == 0 {
        core::hint::spin_loop();
    }
    port::write_u8(DATA, byte);
}
