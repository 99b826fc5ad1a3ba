//! The device status field (virtio 1.2 section 2.1): how far driver and device have come.

use virtio_bindings::virtio_config as spec;

pub(super) const ACKNOWLEDGE: u32 = spec::VIRTIO_CONFIG_S_ACKNOWLEDGE;
pub(super) const DRIVER: u32 = spec::VIRTIO_CONFIG_S_DRIVER;
pub(super) const DRIVER_OK: u32 = spec::VIRTIO_CONFIG_S_DRIVER_OK;
pub(super) const FEATURES_OK: u32 = spec::VIRTIO_CONFIG_S_FEATURES_OK;
pub(super) const NEEDS_RESET: u32 = spec::VIRTIO_CONFIG_S_NEEDS_RESET;
pub(super) const FAILED: u32 = spec::VIRTIO_CONFIG_S_FAILED;

/// The driver's steps, each only after the one before (section 3.1.1).
const STEPS: [u32; 4] = [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK];

/// What `current` becomes when the driver writes `written`, which is not zero.
///
/// Nothing the driver writes takes a bit away, and a step is taken only after those before it.
/// `agreed`: the driver's features are some we can work with, else FEATURES_OK does not stick. A
/// driver that gave up does not come back without a reset.
pub(super) fn advance(current: u32, written: u32, agreed: bool) -> u32 {
    if current & FAILED != 0 {
        return current;
    }
    let refused = |step| step == FEATURES_OK && !agreed && current & FEATURES_OK == 0;
    let wanted = current | written;
    let taken = STEPS.into_iter().take_while(|step| wanted & step != 0 && !refused(*step));
    taken.fold(current | written & FAILED, |status, step| status | step)
}

/// Whether features are being negotiated.
pub(super) fn negotiates(status: u32) -> bool {
    status & (DRIVER | FEATURES_OK | FAILED) == DRIVER
}

/// Whether the driver may set queues up.
pub(super) fn configures(status: u32) -> bool {
    status & (FEATURES_OK | FAILED | NEEDS_RESET) == FEATURES_OK
}

/// Whether the device may touch its queues.
pub(super) fn runs(status: u32) -> bool {
    status & (DRIVER_OK | FAILED | NEEDS_RESET) == DRIVER_OK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_taken_in_order_and_never_back() {
        const ALL: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
        let cases = [
            ("first step", 0, ACKNOWLEDGE, true, ACKNOWLEDGE),
            ("two at once", 0, ACKNOWLEDGE | DRIVER, true, ACKNOWLEDGE | DRIVER),
            ("all at once", 0, ALL, true, ALL),
            ("a step left out", 0, DRIVER, true, 0),
            ("one left out in between", ACKNOWLEDGE, ACKNOWLEDGE | FEATURES_OK, true, ACKNOWLEDGE),
            ("only the new bit", ACKNOWLEDGE, DRIVER, true, ACKNOWLEDGE | DRIVER),
            ("features refused", ACKNOWLEDGE | DRIVER, 11, false, ACKNOWLEDGE | DRIVER),
            ("features refused, gone on regardless", ACKNOWLEDGE | DRIVER, ALL, false, 3),
            ("features refused too late", 11, ALL, false, ALL),
            ("a bit taken away", ALL, ACKNOWLEDGE, true, ALL),
            ("given up", ACKNOWLEDGE, FAILED, true, ACKNOWLEDGE | FAILED),
            ("given up before anything", 0, FAILED, true, FAILED),
            ("gone on after giving up", ACKNOWLEDGE | FAILED, ALL, true, ACKNOWLEDGE | FAILED),
            ("our bit written by the driver", ACKNOWLEDGE, NEEDS_RESET, true, ACKNOWLEDGE),
            ("our bit not written back", ALL | NEEDS_RESET, ALL, true, ALL | NEEDS_RESET),
            ("unknown bits", ACKNOWLEDGE, !ALL & !FAILED, true, ACKNOWLEDGE),
        ];
        for (name, current, written, agreed, expected) in cases {
            assert_eq!(advance(current, written, agreed), expected, "{name}");
        }
    }
}
