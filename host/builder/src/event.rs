//! What happens during a build, as it happens.

use kiln_protocol::Stream;
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Something worth telling the user.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A phase of the work begins, such as "importing base.tar".
    Phase(&'a str),
    /// Something unexpected that does not stop the build, such as falling back to emulation.
    Notice(&'a str),
    /// What only matters to who asks for details, such as paths in use.
    Detail(&'a str),
    /// A step begins.
    StepStarted {
        /// Its name: the build file's key.
        name: &'a str,
    },
    /// The running step wrote this.
    Output {
        /// Where to.
        stream: Stream,
        /// What: any bytes, cut anywhere.
        bytes: &'a [u8],
    },
    /// A step ended well.
    StepEnded {
        /// Its name.
        name: &'a str,
        /// How long it ran.
        took: Duration,
    },
    /// This much of the new layer has arrived.
    LayerReceived {
        /// Bytes of file data so far.
        bytes: u64,
    },
    /// An output is complete.
    Written {
        /// Where it is.
        dest: &'a str,
        /// The image ID: the digest of its configuration.
        image_id: &'a str,
        /// Size in bytes.
        size: u64,
    },
}

/// Who is told. Called from several threads.
pub trait Observer: Send + Sync {
    /// Must not block for long: the guest waits meanwhile.
    fn event(&self, event: Event<'_>);
}

impl<F: Fn(Event<'_>) + Send + Sync> Observer for F {
    fn event(&self, event: Event<'_>) {
        self(event);
    }
}

/// Passes everything on, and a notice only once: a build may start several VMs, and each would fall back to emulation.
pub(crate) struct NoticesOnce<'a> {
    observer: &'a dyn Observer,
    given: Mutex<BTreeSet<String>>,
}

impl<'a> NoticesOnce<'a> {
    pub fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, given: Mutex::default() }
    }
}

impl Observer for NoticesOnce<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice(text) = event {
            let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
            if !given.insert(text.to_owned()) {
                return;
            }
        }
        self.observer.event(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_given_once() {
        let seen = Mutex::new(Vec::new());
        let observer = |event: Event<'_>| seen.lock().unwrap().push(format!("{event:?}"));
        let once = NoticesOnce::new(&observer);
        for event in
            [Event::Notice("slow"), Event::Phase("work"), Event::Notice("slow"), Event::Phase("work")]
        {
            once.event(event);
        }
        let wanted = ["Notice(\"slow\")", "Phase(\"work\")", "Phase(\"work\")"];
        assert_eq!(*seen.lock().unwrap(), wanted);
    }
}
