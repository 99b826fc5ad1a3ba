//! One JSON object per line, for programs.

use kiln_builder::{Event, Observer, Stream};
use serde::Serialize;
use std::io::{self, Write};

/// Every event as an object whose `event` names it.
pub struct Json;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line<'a> {
    Phase { text: &'a str },
    Notice { text: &'a str },
    Detail { text: &'a str },
    StepStarted { name: &'a str },
    Output { stream: &'a str, text: &'a str },
    StepEnded { name: &'a str, seconds: f64 },
    LayerReceived { bytes: u64 },
    Written { dest: &'a str, image_id: &'a str, size: u64 },
    Blob { digest: &'a str, done: u64, size: u64 },
    Error { text: &'a str, exit_code: u8 },
}

/// Says why the build failed.
pub fn error(text: &str, exit_code: u8) {
    write(&Line::Error { text, exit_code });
}

/// Something begins that may take a while.
pub fn phase(text: &str) {
    write(&Line::Phase { text });
}

/// Something unexpected.
pub fn notice(text: &str) {
    write(&Line::Notice { text });
}

/// How far a blob is.
pub fn blob(digest: &str, done: u64, size: u64) {
    write(&Line::Blob { digest, done, size });
}

fn write(line: &Line<'_>) {
    let mut stderr = io::stderr().lock();
    // A closed standard error must not end a build.
    let _ = serde_json::to_writer(&mut stderr, line).map(|()| writeln!(stderr));
}

impl Observer for Json {
    fn event(&self, event: Event<'_>) {
        let text;
        let line = match event {
            Event::Phase(text) => Line::Phase { text },
            Event::Notice(text) => Line::Notice { text },
            Event::Detail(text) => Line::Detail { text },
            Event::StepStarted { name } => Line::StepStarted { name },
            Event::Output { stream, bytes } => {
                text = String::from_utf8_lossy(bytes);
                let stream = match stream {
                    Stream::Stdout => "stdout",
                    Stream::Stderr => "stderr",
                };
                Line::Output { stream, text: &text }
            }
            Event::StepEnded { name, took } => Line::StepEnded { name, seconds: took.as_secs_f64() },
            Event::LayerReceived { bytes } => Line::LayerReceived { bytes },
            Event::Written { dest, image_id, size } => Line::Written { dest, image_id, size },
        };
        write(&line);
    }
}
