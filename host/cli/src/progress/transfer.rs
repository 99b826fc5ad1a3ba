//! Images on their way: bars on a terminal, plain lines otherwise.

use super::json;
use crate::arguments::Progress;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use kiln_image::digest::Digest;
use kiln_transport::{Event, Observer};
use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

/// Digits of a digest that tell blobs apart on a screen.
const DIGEST_LENGTH: usize = 12;

/// The observer of commands that move images.
pub fn observer(progress: Progress) -> Box<dyn Observer> {
    match progress {
        Progress::Json => Box::new(Json),
        Progress::Auto if io::stderr().is_terminal() => Box::new(Bars::default()),
        Progress::Auto | Progress::Plain => Box::new(Plain),
    }
}

/// Says only what is unusual: for commands whose answer is what counts.
pub struct Quiet;

impl Observer for Quiet {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(text) = event {
            say(&format!("kiln: note: {text}"));
        }
    }
}

struct Json;

impl Observer for Json {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(text) => json::phase(text),
            Event::Notice(text) => json::notice(text),
            Event::Blob { digest, done, size } => json::blob(&digest.to_string(), done, size),
        }
    }
}

struct Plain;

impl Observer for Plain {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(text) => say(&format!("kiln: {text}")),
            Event::Notice(text) => say(&format!("kiln: note: {text}")),
            Event::Blob { digest, done, size } if done >= size => {
                say(&format!("kiln: blob {digest} done: {size} bytes"));
            }
            Event::Blob { .. } => {}
        }
    }
}

/// A bar a blob.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Observer for Bars {
    fn event(&self, event: Event<'_>) {
        // What does not fit on a broken terminal is lost.
        match event {
            Event::Phase(text) => drop(self.all.println(text)),
            Event::Notice(text) => drop(self.all.println(format!("note: {text}"))),
            Event::Blob { digest, done, size } => self.blob(digest, done, size),
        }
    }
}

impl Bars {
    fn blob(&self, digest: &Digest, done: u64, size: u64) {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let name: String = digest.hex().chars().take(DIGEST_LENGTH).collect();
        if done < size {
            bars.entry(*digest).or_insert_with(|| self.bar(name, size)).set_position(done);
        } else if let Some(bar) = bars.remove(digest) {
            bar.finish_and_clear();
            drop(self.all.println(format!("✓ {name} ({})", HumanBytes(size))));
        }
    }

    fn bar(&self, name: String, size: u64) -> ProgressBar {
        let template = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.all.add(ProgressBar::new(size).with_style(style).with_prefix(name))
    }
}

fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
