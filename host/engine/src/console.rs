//! The machine's console: the last of it kept, all of it passed on if wanted, never in its way.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Lines kept for error reports.
const LINES_MAX: usize = 24;
/// Characters kept of a line.
const LINE_CHARACTERS_MAX: usize = 240;
/// Pieces of console that may wait for a slow sink; more are left out.
const SINK_BACKLOG: usize = 256;

/// What the kernel starts its last line with (`kernel/panic.c`).
const PANIC: &str = "Kernel panic - not syncing: ";

/// Both: what becomes of a machine's console.
pub(crate) struct Console {
    pub tail: Arc<Tail>,
    pub sink: Option<Sink>,
}

impl Console {
    /// `sink` gets all of it.
    pub fn new(sink: Option<Box<dyn Write + Send>>) -> Self {
        Self { tail: Arc::default(), sink: sink.map(Sink::new) }
    }

    /// Takes in bytes however they are cut.
    pub fn write(&self, bytes: &[u8]) {
        self.tail.write(bytes);
        self.sink.iter().for_each(|sink| sink.write(bytes));
    }
}

/// Keeps the last lines of what is written to it.
#[derive(Default)]
pub(crate) struct Tail(Mutex<Lines>);

#[derive(Default)]
struct Lines {
    whole: VecDeque<String>,
    /// The line that is not finished.
    last: String,
    panic: Option<String>,
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in bytes however they are cut.
    pub fn write(&self, bytes: &[u8]) {
        let mut lines = self.lock();
        for byte in bytes {
            lines.push(*byte);
        }
    }

    /// The last lines, one below the other, in printable ASCII.
    pub fn text(&self) -> String {
        let lines = self.lock();
        let all = lines.whole.iter().chain((!lines.last.is_empty()).then_some(&lines.last));
        let all: Vec<&str> = all.map(|line| line.trim_end()).filter(|line| !line.is_empty()).collect();
        all.join("\n")
    }

    /// Why the kernel gave up, if it did.
    pub fn panic(&self) -> Option<String> {
        self.lock().panic.clone()
    }
}

impl Lines {
    fn push(&mut self, byte: u8) {
        match byte {
            b'\n' => self.finish_line(),
            b'\t' => self.push_character(' '),
            b' '..=b'~' => self.push_character(char::from(byte)),
            b'\r' => {}
            // Escape sequences and the like must not reach the user's terminal.
            _ => self.push_character('?'),
        }
    }

    fn push_character(&mut self, character: char) {
        if self.last.len() < LINE_CHARACTERS_MAX {
            self.last.push(character);
        }
    }

    fn finish_line(&mut self) {
        let line = std::mem::take(&mut self.last);
        if let Some((_, why)) = line.split_once(PANIC) {
            self.panic.get_or_insert_with(|| why.to_owned());
        }
        if self.whole.len() == LINES_MAX {
            self.whole.pop_front();
        }
        self.whole.push_back(line);
    }
}

/// Passes bytes on to a sink that may be slow, such as a terminal that was stopped.
pub(crate) struct Sink {
    pieces: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A thread of its own waits for `sink`.
    pub fn new(mut sink: Box<dyn Write + Send>) -> Self {
        let (pieces, waiting) = mpsc::sync_channel::<Vec<u8>>(SINK_BACKLOG);
        let write = move || {
            for piece in waiting {
                if sink.write_all(&piece).and_then(|()| sink.flush()).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new().name("console".into()).spawn(write).ok();
        Self { pieces: Some(pieces), thread }
    }

    /// Passes on, or leaves out what the sink has no time for.
    pub fn write(&self, bytes: &[u8]) {
        if let Some(pieces) = &self.pieces {
            let _ = pieces.try_send(bytes.to_vec());
        }
    }
}

impl Drop for Sink {
    /// Waits until the sink has all that was passed on.
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
