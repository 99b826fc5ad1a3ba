//! Random numbers.

use super::{Machine, Outcome, Scenario, check};
use crate::physical::Buffer;
use crate::virtio::{self, Descriptor, Device, Memory, transport};
use alloc::format;
use alloc::string::String;
use virtio_drivers::device::rng::VirtIORng;

pub const SCENARIOS: &[(&str, Scenario)] = &[("entropy", random)];

/// Two answers differ, and a long one is random as far as it is filled.
fn random(machine: &Machine) -> Outcome {
    let location = machine.device(virtio::ENTROPY)?;
    let (mut first, mut second) = ([0; 64], [0; 64]);
    {
        let mut driver = VirtIORng::<Memory, _>::new(transport(location)).map_err(|e| format!("{e}"))?;
        for into in [&mut first, &mut second] {
            let length = driver.request_entropy(into).map_err(|e| format!("{e}"))?;
            check(length == into.len(), || format!("{length} bytes"))?;
        }
    }
    check(first != second, || String::from("the same twice"))?;
    let device = Device::prepare(location, 0)?;
    let mut queue = device.queue(0, 8)?;
    device.start();
    let long = Buffer::new(16 * 1024);
    queue.offer(&[Descriptor::writable(long.address, long.bytes)]);
    device.notify(0);
    let used = queue.wait_used()?;
    let given = long.bytes(used.length as usize);
    let zeroes = given.iter().filter(|byte| **byte == 0).count();
    check(given.len() >= 64 && zeroes <= given.len() / 8, || format!("{used:?}, {zeroes} zeroes"))
}
