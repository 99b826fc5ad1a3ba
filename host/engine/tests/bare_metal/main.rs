//! Our own guest (`tests/guest`) drives every device, well and badly, with its own drivers. What a scenario
//! does is described there; here is the host's side of it, for every engine.

mod guest;
mod machine;
mod streams;

use kiln_engine::kvm::Kvm;
use kiln_engine::qemu::Qemu;
use kiln_engine::{Engine, Exit};
use machine::{DISK_SECTORS, Run, sector};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use streams::*;

/// A test for each engine, or for KVM only: QEMU's transport is its own and filters some of what a guest does
/// before our devices see it.
macro_rules! tests {
    (every engine: $($every:ident),*; kvm only: $($only:ident),*) => {
        mod qemu {
            $(#[test] fn $every() { super::$every(&super::Qemu::from_environment()) })*
        }
        mod kvm {
            $(#[test] fn $every() { super::on_kvm(super::$every) })*
            $(#[test] fn $only() { super::on_kvm(super::$only) })*
        }
    };
}

tests! {
    every engine:
        disks_are_read_and_written,
        disks_refuse_what_cannot_be,
        random_numbers_come,
        interrupts_are_as_many_as_they_should_be,
        malformed_chains_are_survived,
        registers_bear_misuse,
        nothing_is_where_nothing_is,
        two_processors_run_at_once,
        streams_close_in_every_way,
        streams_keep_to_credit,
        streams_bear_misuse,
        streams_end_when_the_device_is_reset,
        a_guest_that_faults_ends;
    kvm only:
        transport_refuses_what_it_must,
        connections_have_a_limit,
        the_same_guest_costs_the_same
}

/// Where `/dev/kvm` opens, KVM has to work: this guest needs nothing that any KVM lacks.
fn on_kvm(test: fn(&dyn Engine)) {
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) => test(&Kvm::at(env!("CARGO_BIN_EXE_kiln-vmm").into())),
        Err(error) => println!("SKIPPED: /dev/kvm does not open: {error}"),
    }
}

fn disks_are_read_and_written(engine: &dyn Engine) {
    let scenarios = [
        "block_read",
        "block_read_in_pieces",
        "block_write",
        "block_write_in_pieces",
        "block_clear",
        "block_serial",
        "block_reset_in_traffic",
    ];
    let disk = Run::of(engine, &scenarios).passes();
    let mut expected = original();
    let news = |length: usize| (0..length).map(|index| (index % 251) as u8).collect::<Vec<u8>>();
    expected[100 * 512..108 * 512].copy_from_slice(&news(8 * 512));
    for start in [200, 232, 264] {
        expected[start * 512..(start + 32) * 512].copy_from_slice(&news(32 * 512));
    }
    expected[1024 * 512..1152 * 512].fill(0);
    expected[2048 * 512..2056 * 512].fill(0);
    assert!(content(&disk) == expected, "the disk is not as the guest wrote it");
}

fn disks_refuse_what_cannot_be(engine: &dyn Engine) {
    let scenarios = ["block_unsupported", "block_read_only", "block_out_of_range", "block_configuration"];
    unharmed(engine, &scenarios);
}

fn random_numbers_come(engine: &dyn Engine) {
    unharmed(engine, &["entropy"]);
}

fn interrupts_are_as_many_as_they_should_be(engine: &dyn Engine) {
    unharmed(engine, &["interrupt_per_batch", "interrupt_suppressed", "interrupt_event_index"]);
}

fn malformed_chains_are_survived(engine: &dyn Engine) {
    let scenarios = [
        "malformed_loops",
        "malformed_lengths",
        "malformed_addresses",
        "malformed_overlaps",
        "malformed_directions",
        "malformed_indices",
        "malformed_tables",
        "malformed_table_not_negotiated",
        "malformed_chain_too_long",
        "malformed_available_index",
        "malformed_available_entries",
    ];
    unharmed(engine, &scenarios);
}

fn registers_bear_misuse(engine: &dyn Engine) {
    let scenarios = [
        "registers_identity",
        "registers_widths",
        "registers_all_written",
        "registers_notify",
        "registers_order",
    ];
    unharmed(engine, &scenarios);
}

fn transport_refuses_what_it_must(engine: &dyn Engine) {
    let scenarios = [
        "registers_selectors",
        "registers_features",
        "interrupt_when_broken",
        "queue_addresses",
        "queue_sizes",
        "queue_without_memory",
    ];
    unharmed(engine, &scenarios);
}

fn nothing_is_where_nothing_is(engine: &dyn Engine) {
    unharmed(engine, &["nowhere_memory", "nowhere_ports", "ports_read", "ports_string"]);
}

fn two_processors_run_at_once(engine: &dyn Engine) {
    let scenarios = ["processors_at_once", "processors_drive_devices", "processors_fight_over_a_device"];
    Run::with_cpus(engine, 2, &scenarios).passes();
}

/// A triple fault: emulation takes it for a restart, which it is on a real machine; on KVM nobody does that on
/// purpose, as there is a keyboard controller.
fn a_guest_that_faults_ends(engine: &dyn Engine) {
    let (said, exit) = Run::of(engine, &["hello", "triple_fault"]).ends();
    assert!(said.contains("pass hello") && !said.contains("done"), "{said}");
    match exit {
        Exit::PoweredOff => assert_eq!(engine.name(), "qemu"),
        Exit::Failed(why) => assert!(why.contains("triple fault"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// Exits, wake-ups and interrupts are counted, and steady.
fn the_same_guest_costs_the_same(engine: &dyn Engine) {
    let cost = || {
        let mut run = Run::of(engine, &["interrupt_per_batch", "vsock_ordinary"]);
        let stream = run.accept();
        let counters = run.counters();
        streams::ordinary(stream);
        run.passes();
        println!("{counters:?}");
        counters
    };
    let (first, second) = (cost(), cost());
    for cost in [&first, &second] {
        // Four batches of eight requests; the buffers to receive into, and the request to connect, unless the
        // device finds it while it looks at the buffers. The driver looks for the answer without being told.
        assert!((4 + 1..=4 + 2).contains(&cost.kicks), "{cost:?}");
        assert_eq!(cost.interrupts, 4);
    }
    // Others come when a signal does, or another guest has the processor.
    assert_eq!((first.port_exits, first.mmio_exits), (second.port_exits, second.mmio_exits));
}

/// Runs scenarios that must not change the disk.
fn unharmed(engine: &dyn Engine, scenarios: &[&str]) {
    let disk = Run::of(engine, scenarios).passes();
    assert!(content(&disk) == original(), "the guest's disk has changed");
}

fn original() -> Vec<u8> {
    (0..DISK_SECTORS).flat_map(sector).collect()
}

fn content(disk: &File) -> Vec<u8> {
    let mut content = vec![0; DISK_SECTORS * 512];
    disk.read_exact_at(&mut content, 0).unwrap();
    content
}
