//! PID 1 of the micro-VM: mounts the disks, runs the job's steps as real root, and sends back their
//! output and the new layer. See `kiln-protocol` for what is said on the way.
//!
//! ```text
//! machine    what the kernel leaves to do: /dev, /proc, /sys, clock, network, power off
//! session    the job, stage by stage
//! storage    disks and overlays            contents   filling the layer
//! step       pipes and output of a step    namespace  its first process    view  its root
//! program    what it executes              account    as whom
//! layer      the upper directory as records           base  what is unchanged in it
//! tree       reading directories           connection the host             sys  system calls
//! target     the disk that is being made   unmount    with patience
//! ```
//!
//! One process with one thread, but for the steps. Nothing but the steps' own programs is executed.

mod account;
mod base;
mod connection;
mod contents;
mod failure;
mod layer;
mod machine;
mod namespace;
mod program;
mod session;
mod step;
mod storage;
mod sys;
mod target;
mod tree;
mod unmount;
mod view;

use connection::Connection;
use failure::{Failure, Result, Trying};
use kiln_protocol::{FromGuest, FromHost, Job, VERSION};
use std::path::Path;
use storage::Disks;

/// `kiln doctor` looks for it in the program.
const IDENTITY: &str =
    concat!("kiln-agent ", env!("CARGO_PKG_VERSION"), ", PID 1 of kiln's virtual machines");

/// Where the VM's disks are mounted.
const DIRECTORY: &str = "/kiln";

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--without-vm", disks, directory] => without_machine(disks, directory),
        _ if std::process::id() == 1 => as_first_process(),
        _ => {
            eprintln!("{IDENTITY}: it does nothing here");
            std::process::exit(2);
        }
    }
}

fn as_first_process() -> ! {
    machine::power_off_on_panic();
    if let Err(failure) = serve() {
        eprintln!("kiln-agent: {failure}");
    }
    machine::power_off();
}

fn serve() -> Result<()> {
    let mut connection = Connection::new(machine::connect()?);
    greet(&mut connection)?;
    // The host answers meanwhile.
    let mounted = machine::mount_system();
    let job = receive_job(&mut connection)?;
    let last = match mounted.and_then(|()| machine::set_up(&job)) {
        Ok(()) => session::run(&job, &Disks::Virtio, Path::new(DIRECTORY), &mut connection),
        Err(failure) => session::failed(failure, None, None),
    };
    connection.send(&last)?;
    connection.close();
    Ok(())
}

/// For tests: one job over the stream on standard input, in namespaces that the caller made, without
/// touching the machine. Disks are devices named by serial in the directory `disks`.
fn without_machine(disks: &str, directory: &str) {
    let run = || -> Result<()> {
        rustix::process::umask(rustix::fs::Mode::empty());
        machine::allow_all_open_files()?;
        let stream = rustix::stdio::stdin().try_clone_to_owned().trying(|| "take standard input")?;
        let mut connection = Connection::new(stream);
        greet(&mut connection)?;
        let job = receive_job(&mut connection)?;
        machine::set_host_name(&job.hostname)?;
        let last = session::run(&job, &Disks::Named(disks.into()), Path::new(directory), &mut connection);
        connection.send(&last)?;
        connection.close();
        Ok(())
    };
    if let Err(failure) = run() {
        eprintln!("kiln-agent: {failure}");
        std::process::exit(1);
    }
}

fn greet(connection: &mut Connection) -> Result<()> {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    connection.send(&FromGuest::Hello { version: VERSION, kernel })
}

fn receive_job(connection: &mut Connection) -> Result<Job> {
    match connection.receive()? {
        FromHost::Job(job) => Ok(job),
        other => Err(Failure::new(format!("the host sent {other:?} before a job"))),
    }
}
