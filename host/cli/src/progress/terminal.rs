//! A line that moves, with the log scrolling above it.

use super::lines::Lines;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use kiln_builder::{Event, Observer};
use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How often the line moves.
const TICK: Duration = Duration::from_millis(120);

/// For people who watch.
pub struct Terminal {
    bar: ProgressBar,
    /// Both streams: on a terminal they are one.
    lines: Mutex<Lines>,
}

impl Terminal {
    /// Starts the line.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(TICK);
        Self { bar, lines: Mutex::default() }
    }

    fn end_lines(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).end(|part| self.bar.println(part.text()));
    }
}

impl Observer for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase(text) => self.bar.set_message(text.to_owned()),
            Event::StepStarted { name } => self.bar.set_message(name.to_owned()),
            Event::Notice(text) => self.bar.println(format!("note: {text}")),
            Event::Detail(_) => {}
            Event::Output { bytes, .. } => {
                let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(bytes, |part| self.bar.println(part.text()));
            }
            Event::StepEnded { name, took } => {
                self.end_lines();
                self.bar.println(format!("✓ {name} ({:.1} s)", took.as_secs_f64()));
            }
            Event::LayerReceived { bytes } => {
                self.bar.set_message(format!("receiving the layer: {}", HumanBytes(bytes)));
            }
            Event::Written { dest, image_id, size } => {
                self.bar.println(format!("✓ wrote {dest} ({}), image {image_id}", HumanBytes(size)));
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_lines();
        self.bar.finish_and_clear();
    }
}
