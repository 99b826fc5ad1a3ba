//! What happens during a build, as it happens.

use kiln_protocol::Stream;
use std::time::Duration;

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
