//! From an image to a disk.
//!
//! ```text
//! check    everything that can go wrong for a reason that is known already
//! edit     on the host: fstab, what was declared, loaders' configuration
//! prepare  in the VM, over the image: initial RAM disks, scripts, boot loaders' installers
//! table    on the host: with contents known, partitions get their sizes
//! fill     in the VM, from the finished tree: file systems, each made and filled by its own tool
//! put right, on the host: what a tool has made at random, the first sector
//! ```
//!
//! What comes before `fill` is an image like any other; `fill` is a function of that image and the plan. A VM is
//! started twice for that, which costs a second at most and gives file systems that are never dirty.

use super::{
    checks,
    edit::{Edit, Editor},
    file_system::{self, Filling, Making, Masked},
    fstab,
    identity::{Identity, Uuid, parse_identity},
    initrd,
    layout::{self, Layout},
    loader::{self, BootCode, Scene, Task, Work},
    plan::{DiskPlan, FileSystem, PartitionPlan, PartitionSize, Table, is_writable},
    read_only,
    room::Contents,
    survey::{self, Kernel},
};
use crate::{
    Error,
    contents::{self, Sources},
    disks,
    error::Kind,
    event::Event,
    execute::{BuildRequest, HOST_NAME, environment, set_variable},
    guest::Surroundings,
    packing::{self, GuestLayer},
    password::Salt,
    scratch,
    session::LayerReceiver,
};
use kiln_devices::FileStorage;
use kiln_engine::Disk;
use kiln_image::{
    config::{Change, ContainerConfig, Timestamp},
    tree::Tree,
};
use kiln_protocol::{Job, LayerRecord, Program, Stage, Step, Target, TargetMount};
use kiln_store::{Layer, StoredImage};
use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

/// Serial of the disk that is made.
const TARGET: &str = "target";
/// What its name is hashed with, where the plan gives no identity.
pub(super) const SEED: &str = "disk";

/// Everything that a disk is made with.
pub(crate) struct DiskMaker<'a> {
    pub request: &'a BuildRequest,
    pub surroundings: Surroundings<'a>,
    pub plan: &'a DiskPlan,
    pub toolbox: &'a StoredImage,
    pub epoch: Timestamp,
}

/// A disk.
pub(crate) struct MadeDisk {
    /// Sparse; without a name.
    pub file: File,
    /// What it was made of in the end.
    pub image: StoredImage,
    /// The kernels on it, the newest first.
    pub kernels: Vec<Kernel>,
    /// What they are told.
    pub command_line: String,
    /// For formats that have one.
    pub uuid: Uuid,
    /// When it was made.
    pub epoch: Timestamp,
}

/// A partition that is settled but for its size.
pub(super) struct Settled {
    uuid: Uuid,
    partition_uuid: Uuid,
}

impl DiskMaker<'_> {
    /// Makes the disk of the image.
    pub fn make(&self, image: &StoredImage) -> Result<MadeDisk, Error> {
        let toolbox = self.tree(self.toolbox)?;
        let tree = self.tree(image)?;
        let identity = Identity { image: &image.image_id, seed: SEED };
        let settled = self.settle(identity)?;
        let work = self.check(&tree, &toolbox, identity, &settled)?;
        self.surroundings.check()?;

        let edited = self.edit(image, &settled, &work)?;
        let file = packing::temporary_file(self.surroundings.store)?;
        let prepared = self.prepare(&edited, &file, identity, &settled, &work)?;
        let finished = self.add_late_edits(&prepared, &toolbox, identity, &settled)?;

        let tree = self.tree(&finished)?;
        // Scripts may have changed them.
        checks::check_mount_points(self.plan, &tree).map_err(|why| self.wrong(why))?;
        let layout = self.layout(&tree, identity, &settled)?;
        self.write_table(&file, &layout)?;
        self.fill(&finished, &tree, &file, &layout, &settled, &work)?;
        self.put_right(&file, &layout)?;
        self.write_boot_code(&file, &work, &finished)?;
        let scene_kernels = survey::kernels(&tree);
        let command_line = self.scene(&tree, &toolbox, &scene_kernels, identity, &settled).command_line();
        Ok(MadeDisk {
            file,
            kernels: scene_kernels,
            command_line,
            uuid: Identity { image: &finished.image_id, seed: "file" }.uuid(&layout.length.to_string()),
            image: finished,
            epoch: self.epoch,
        })
    }

    /// Bytes that a file system with the image's files needs, with some left over.
    pub fn room_of_tree(&self, image: &StoredImage, slack: u64) -> Result<u64, Error> {
        let tree = self.tree(image)?;
        let file_system = self.plan.root().and_then(|root| self.plan.partitions[root].file_system);
        let file_system = file_system.or(Some(FileSystem::Ext4));
        Ok(Contents::of(&tree, Tree::ROOT, &[]).room(file_system, slack))
    }

    pub(super) fn tree(&self, image: &StoredImage) -> Result<Tree, Error> {
        let tree = self.surroundings.store.base(image).and_then(|base| base.tree());
        Ok(tree.map_err(|source| Kind::Store { what: "cannot read the image's files".to_owned(), source })?)
    }

    fn seconds(&self) -> i64 {
        i64::try_from(self.epoch.unix_seconds()).expect("years have four digits")
    }

    pub(super) fn settle(&self, identity: Identity) -> Result<Vec<Settled>, Error> {
        let settle = |(index, partition): (usize, &PartitionPlan)| {
            let given = |text: &Option<String>, file_system, purpose: &str| match text {
                None => Ok(identity.uuid(&format!("{purpose} {}", index + 1))),
                Some(text) => parse_identity(file_system, text)
                    .ok_or_else(|| self.wrong(format!("partition {}: `{text}` is no UUID", index + 1))),
            };
            Ok(Settled {
                uuid: given(&partition.uuid, partition.file_system, "file system")?,
                partition_uuid: given(&partition.partition_uuid, None, "partition")?,
            })
        };
        self.plan.partitions.iter().enumerate().map(settle).collect()
    }

    /// Everything that can be known to fail.
    fn check(
        &self,
        tree: &Tree,
        toolbox: &Tree,
        identity: Identity,
        settled: &[Settled],
    ) -> Result<Work, Error> {
        let kernels = survey::kernels(tree);
        if kernels.is_empty() && !self.plan.boot.is_empty() {
            return Err(self.wrong(
                "there is no kernel in the image: none in /boot (vmlinuz-VERSION), none beside its modules \
                 (/lib/modules/VERSION/vmlinuz); install one, or make a disk that does not boot (boot = [], --boot \
                 none)",
            ));
        }
        if self.plan.root().is_none() && !self.plan.boot.is_empty() {
            return Err(self.wrong("no partition is the root: one needs mount = \"/\""));
        }
        // Sizes as they would be now; what is to come makes them larger, never smaller.
        self.layout(tree, identity, settled)?;
        self.check_file_systems(toolbox)?;
        checks::check_mount_points(self.plan, tree).map_err(|why| self.wrong(why))?;
        checks::check_copies(self.plan, tree, &kernels).map_err(|why| self.wrong(why))?;
        super::system::check(&self.plan.system, tree)?;
        for notice in super::system::notices(self.plan, tree) {
            self.surroundings.observer.event(Event::Notice(notice));
        }
        self.work(tree, toolbox, &kernels, identity, settled)
    }

    /// What runs, and where.
    pub(super) fn work(
        &self,
        tree: &Tree,
        toolbox: &Tree,
        kernels: &[Kernel],
        identity: Identity,
        settled: &[Settled],
    ) -> Result<Work, Error> {
        let (kernels, edits) = loader::brought_to_boot(self.plan, kernels.to_vec());
        let scene = self.scene(tree, toolbox, &kernels, identity, settled);
        let mut work = Work { edits, ..Work::default() };
        for (name, script) in initrd::steps(self.plan, tree, &kernels).map_err(|why| self.wrong(why))? {
            work.in_image.push(Task { name, script });
        }
        for script in &self.plan.scripts {
            let script_text = String::from_utf8_lossy(&script.text).into_owned();
            work.in_image.push(Task { name: script.name.clone(), script: script_text });
        }
        for loader in &self.plan.boot {
            let more = loader::work(*loader, &scene).map_err(|why| self.wrong(why))?;
            work.edits.extend(more.edits);
            // What two loaders need is done once, after both.
            work.in_image.retain(|task| !more.in_image.contains(task));
            work.in_image.extend(more.in_image);
            work.in_toolbox.extend(more.in_toolbox);
            work.on_disk.extend(more.on_disk);
            work.boot_code = work.boot_code.or(more.boot_code);
        }
        Ok(work)
    }

    fn check_file_systems(&self, toolbox: &Tree) -> Result<(), Error> {
        for partition in &self.plan.partitions {
            let Some(file_system) = partition.file_system else { continue };
            let tool = match file_system {
                FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => "mke2fs",
                FileSystem::Xfs => "mkfs.xfs",
                FileSystem::Btrfs => "mkfs.btrfs",
                FileSystem::Vfat => "mkfs.vfat",
                FileSystem::Swap => "mkswap",
                FileSystem::Squashfs => "mksquashfs",
                FileSystem::Erofs => "mkfs.erofs",
                FileSystem::None => continue,
            };
            if survey::program(toolbox, &[tool]).is_none() {
                return Err(
                    self.wrong(format!("the toolbox has no {tool}, which makes {}", file_system.name()))
                );
            }
        }
        Ok(())
    }

    fn wrong(&self, message: impl Into<String>) -> Error {
        Kind::Plan(message.into()).into()
    }

    fn scene<'s>(
        &'s self,
        tree: &'s Tree,
        toolbox: &'s Tree,
        kernels: &'s [Kernel],
        identity: Identity,
        settled: &[Settled],
    ) -> Scene<'s> {
        let named = self.named(identity, settled);
        let root = self.plan.root().and_then(|index| {
            let file_system = self.plan.partitions[index].file_system?;
            let source = named[index].source()?;
            let kind = format!(" rootfstype={}", file_system.name());
            Some(format!("root={source}{}", if is_writable(file_system) { "" } else { &kind }))
        });
        let boot = self.plan.holder("boot").unwrap_or(0);
        let boot_is_apart =
            self.plan.partitions.get(boot).is_some_and(|plan| plan.mount_path() == Some("boot"));
        let esp = self.plan.partitions.iter().find(|partition| partition.is_esp());
        let source = named.get(boot).and_then(fstab::Named::source).unwrap_or_default();
        Scene {
            plan: self.plan,
            tree,
            toolbox,
            kernels,
            root: root.unwrap_or_default(),
            boot_uuid: source.trim_start_matches("UUID=").to_owned(),
            boot_partition: self.number(boot),
            boot_prefix: if boot_is_apart { "" } else { "/boot" },
            esp: esp.and_then(|esp| esp.mount_path()).map(str::to_owned),
            title: DEFAULT_TITLE.to_owned(),
        }
    }

    /// A partition's number; 0 is the disk.
    fn number(&self, index: usize) -> u32 {
        match self.plan.table {
            Table::None => 0,
            Table::Gpt | Table::Mbr => layout::number(self.plan, index),
        }
    }

    fn named(&self, identity: Identity, settled: &[Settled]) -> Vec<fstab::Named<'_>> {
        let disk = layout::disk_identifier(self.plan, identity);
        let partitions = self.plan.partitions.iter().enumerate().zip(settled);
        let named = partitions.map(|((index, plan), settled)| fstab::Named {
            plan,
            uuid: settled.uuid,
            partition_uuid: layout::partition_uuid(self.number(index), &settled.partition_uuid, &disk),
        });
        named.collect()
    }

    /// The image with what is declared of the system, as a layer.
    pub(super) fn edit(
        &self,
        image: &StoredImage,
        settled: &[Settled],
        work: &Work,
    ) -> Result<StoredImage, Error> {
        if self.plan.is_plain {
            return Ok(image.clone());
        }
        let identity = Identity { image: &image.image_id, seed: SEED };
        let mut edits = Vec::new();
        if self.plan.root().is_some() || self.plan.partitions.is_empty() {
            // What an init mounts over, and container images often lack.
            edits.extend(DIRECTORIES.map(|(path, mode)| Edit::Directory {
                path: path.to_owned(),
                mode,
                uid: 0,
                gid: 0,
            }));
        }
        for mount in self.plan.partitions.iter().filter_map(|partition| partition.mount_path()) {
            if !mount.is_empty() {
                edits.push(Edit::Directory { path: mount.to_owned(), mode: 0o755, uid: 0, gid: 0 });
            }
        }
        edits.extend(work.edits.iter().cloned());
        let has_mounts = self.plan.root().is_some();
        let named = self.named(identity, settled);
        let salt = Salt::of(image.layers.iter().map(|layer| &layer.diff_id));
        self.with_layer(image, "disk: declared", &mut |tree, sources| {
            let mut editor = Editor { tree, sources };
            if has_mounts {
                let existing = editor.read("etc/fstab").ok().flatten();
                let (bytes, commented) = fstab::write(existing.as_deref(), &named);
                if commented > 0 {
                    let notice = format!(
                        "/etc/fstab: what names disks of another system ({commented} lines) is a comment now"
                    );
                    self.surroundings.observer.event(Event::Notice(&notice));
                }
                editor.apply(&[Edit::File { path: "etc/fstab".to_owned(), mode: 0o644, bytes }])?;
            }
            super::system::apply(&self.plan.system, &mut editor, &salt)?;
            editor.apply(&edits)
        })
    }

    /// The image with one more layer, made by changing its files on the host.
    fn with_layer(
        &self,
        image: &StoredImage,
        what: &str,
        change: contents::Change,
    ) -> Result<StoredImage, Error> {
        let store = self.surroundings.store;
        let layer = packing::new_layer(store, &[], self.request.threads)?;
        let joined = contents::joined(&image.layers, &[], change, self.seconds(), store, layer)?;
        self.keep(image, packing::finish(joined)?, what)
    }

    fn keep(&self, image: &StoredImage, layer: Layer, what: &str) -> Result<StoredImage, Error> {
        if packing::is_empty(&layer)? {
            return Ok(image.clone());
        }
        let change = Change {
            layer: Some(layer.diff_id),
            created: self.epoch,
            created_by: what.to_owned(),
            comment: None,
            author: None,
            config: ContainerConfig::default(),
        };
        let config = image.config.derive(change);
        let json = config.to_json();
        let layers = image.layers.iter().cloned().chain([layer]).collect();
        let kept = self.surroundings.store.keep_image(config, json, layers);
        Ok(kept.map_err(|source| Kind::Store { what: "cannot keep the image".to_owned(), source })?)
    }

    /// Runs what runs in the tree.
    pub(super) fn prepare(
        &self,
        image: &StoredImage,
        file: &File,
        identity: Identity,
        settled: &[Settled],
        work: &Work,
    ) -> Result<StoredImage, Error> {
        if work.in_image.is_empty() && work.in_toolbox.is_empty() {
            return Ok(image.clone());
        }
        let tree = self.tree(image)?;
        if !self.plan.partitions.is_empty() {
            let layout = self.layout(&tree, identity, settled)?;
            self.write_table(file, &layout)?;
        }
        let variables = self.variables(image);
        let step = |stage, task: &Task| self.step(stage, task, &variables);
        let mut steps = Vec::new();
        for (index, partition) in self.plan.partitions.iter().enumerate() {
            let is_asked = partition.mount.is_some() && partition.file_system.is_some_and(is_writable);
            if let Some(making) = self.making(index, settled).filter(|_| is_asked) {
                let name = format!("empty {}", self.file_system_name(index, &making));
                steps.push(step(Stage::PreMount, &Task { name, script: making.script(None) }));
            }
        }
        steps.extend(work.in_image.iter().map(|task| step(Stage::Root, task)));
        steps.extend(work.in_toolbox.iter().map(|task| step(Stage::PostMount, task)));
        let mut layer =
            GuestLayer::create(self.surroundings.store, &[], self.request.threads, self.seconds())?;
        self.surroundings.phase("preparing the system");
        let target = self.target(identity, settled);
        self.run(image, file, steps, target, true, &mut layer)?;
        self.keep(image, layer.into_layer()?, "disk: prepared")
    }

    fn variables(&self, image: &StoredImage) -> Vec<String> {
        let mut variables = environment(image.config.config.env.clone());
        set_variable(&mut variables, format!("SOURCE_DATE_EPOCH={}", self.epoch.unix_seconds()));
        variables
    }

    pub(super) fn step(&self, stage: Stage, task: &Task, variables: &[String]) -> Step {
        Step {
            name: task.name.clone(),
            stage,
            program: Program::Script(task.script.clone().into_bytes()),
            user: None,
            environment: if stage == Stage::Root { variables.to_vec() } else { environment(None) },
            working_directory: None,
            stdin: false,
        }
    }

    fn target(&self, identity: Identity, settled: &[Settled]) -> Target {
        let named = self.named(identity, settled);
        let partitions = self.plan.partitions.iter().enumerate();
        let mounts = partitions.clone().filter_map(|(index, partition)| {
            let path = partition.mount_path()?.to_owned();
            Some(TargetMount { partition: self.number(index), path })
        });
        let links =
            named.iter().enumerate().filter_map(|(index, named)| Some((named.link()?, self.number(index))));
        Target { serial: TARGET.to_owned(), mounts: mounts.collect(), links: links.collect() }
    }

    /// Runs steps that need the disk and the finished tree, with nothing of it mounted.
    pub(super) fn run_on_disk(
        &self,
        image: &StoredImage,
        file: &File,
        steps: Vec<Step>,
    ) -> Result<(), Error> {
        let target = Target { serial: TARGET.to_owned(), mounts: Vec::new(), links: Vec::new() };
        self.run(image, file, steps, target, false, &mut Nothing)
    }

    fn run(
        &self,
        image: &StoredImage,
        file: &File,
        steps: Vec<Step>,
        target: Target,
        send_layer: bool,
        layer: &mut dyn LayerReceiver,
    ) -> Result<(), Error> {
        let store = self.surroundings.store;
        let failed = |source| scratch::write_failed(store, source);
        let storage = Arc::new(FileStorage::writable(file.try_clone().map_err(failed)?).map_err(failed)?);
        // The first one, so that tools that count disks count it first.
        let disks = vec![
            Disk { serial: TARGET.to_owned(), storage: storage.clone(), read_only: false },
            disks::of_image(disks::BASE, image, store)?,
            disks::of_image(disks::TOOLS, self.toolbox, store)?,
        ];
        let job = Job {
            hostname: HOST_NAME.to_owned(),
            clock: self.epoch.unix_seconds(),
            base: Some(disks::BASE.to_owned()),
            tools: Some(disks::TOOLS.to_owned()),
            contents: None,
            scratch: scratch::SERIAL.to_owned(),
            target: Some(target),
            steps,
            send_layer,
        };
        let result = self.request.guest.run(&job, disks, None, layer, self.surroundings);
        if let Some(source) = kiln_devices::Storage::host_error(storage.as_ref()) {
            return Err(failed(source));
        }
        result
    }

    /// The image with loaders' files that need initial RAM disks to be there.
    fn add_late_edits(
        &self,
        image: &StoredImage,
        toolbox: &Tree,
        identity: Identity,
        settled: &[Settled],
    ) -> Result<StoredImage, Error> {
        let store = self.surroundings.store;
        let tree = self.tree(image)?;
        let kernels = survey::kernels(&tree);
        let own = Sources::new(store, &image.layers);
        let mut scene = self.scene(&tree, toolbox, &kernels, identity, settled);
        let release = survey::find(&tree, OS_RELEASE)
            .and_then(|(_, id)| contents::read_file(&tree, &own, id, OS_RELEASE, OS_RELEASE_MAX).ok());
        scene.title = release.as_deref().and_then(survey::title).unwrap_or(scene.title);
        let others = Sources::new(store, &self.toolbox.layers);
        let mut edits = Vec::new();
        for loader in &self.plan.boot {
            let read = &mut |path: &str, is_in_toolbox: bool| {
                let (tree, sources) = if is_in_toolbox { (toolbox, &others) } else { (&tree, &own) };
                let found =
                    survey::find(tree, path).ok_or_else(|| Kind::NotInImage { path: path.to_owned() });
                contents::read_file(tree, sources, found?.1, path, BOOT_FILE_MAX)
            };
            edits.extend(loader::late_edits(*loader, &scene, read)?);
        }
        if edits.is_empty() {
            return Ok(image.clone());
        }
        self.with_layer(image, "disk: boot loader", &mut |tree, sources| {
            Editor { tree, sources }.apply(&edits)
        })
    }

    pub(super) fn layout(
        &self,
        tree: &Tree,
        identity: Identity,
        settled: &[Settled],
    ) -> Result<Layout, Error> {
        let sizes: Vec<Option<u64>> =
            (0..self.plan.partitions.len()).map(|index| self.size(index, tree)).collect::<Result<_, _>>()?;
        let uuids: Vec<Uuid> = settled.iter().map(|settled| settled.partition_uuid).collect();
        let layout = layout::plan(self.plan, &sizes, &uuids, identity).map_err(|why| self.wrong(why))?;
        for (index, range) in layout.partitions.iter().enumerate() {
            self.check_room(index, range.end - range.start, self.contents(index, tree))?;
        }
        Ok(layout)
    }

    fn check_room(&self, index: usize, bytes: u64, contents: Contents) -> Result<(), Error> {
        let partition = &self.plan.partitions[index];
        // Options may make it smaller.
        let file_system = partition.file_system.filter(|_| partition.mkfs_options.is_empty());
        let least = contents.least(file_system);
        // Whatever is compressed takes less than it is.
        if least <= bytes || partition.file_system == Some(FileSystem::Squashfs) {
            return Ok(());
        }
        Err(self.wrong(format!(
            "partition {} of {} MiB is too small for the {} MiB of {} that go onto it: {} takes at least {} MiB",
            index + 1,
            bytes >> 20,
            contents.bytes.div_ceil(1 << 20),
            partition.mount.as_deref().unwrap_or("contents"),
            partition.file_system.map_or("a file system", FileSystem::name),
            least.div_ceil(1 << 20),
        )))
    }

    /// In bytes; `None` for the rest.
    fn size(&self, index: usize, tree: &Tree) -> Result<Option<u64>, Error> {
        let partition = &self.plan.partitions[index];
        let contents = self.contents(index, tree);
        let needed = |slack| contents.room(partition.file_system, slack);
        match partition.size {
            PartitionSize::Rest => Ok(None),
            PartitionSize::Fit { slack } => Ok(Some(needed(slack + self.to_come(index)))),
            PartitionSize::Bytes(bytes) => Ok(Some(bytes)),
        }
    }

    /// What boot loaders will put there, at most.
    fn to_come(&self, index: usize) -> u64 {
        let is_boot = self.plan.holder("boot") == Some(index) && !self.plan.boot.is_empty();
        if is_boot { LOADER_ROOM } else { 0 }
    }

    fn contents(&self, index: usize, tree: &Tree) -> Contents {
        let Some(path) = self.plan.partitions[index].mount_path() else { return Contents::default() };
        let Some((_, top)) = survey::find(tree, path) else { return Contents::default() };
        let mounts = self.plan.partitions.iter().filter_map(|partition| partition.mount_path());
        let elsewhere: Vec<_> =
            mounts.filter_map(|path| survey::find(tree, path)).map(|(_, id)| id).collect();
        Contents::of(tree, top, &elsewhere)
    }

    fn write_table(&self, file: &File, layout: &Layout) -> Result<(), Error> {
        let failed = |source| scratch::write_failed(self.surroundings.store, source);
        file.set_len(layout.length).map_err(failed)?;
        for (offset, bytes) in &layout.writes {
            file.write_all_at(bytes, *offset).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn making<'s>(&'s self, index: usize, settled: &[Settled]) -> Option<Making<'s>> {
        let partition = &self.plan.partitions[index];
        let number = self.number(index);
        let is_boot = self.plan.holder("boot") == Some(index);
        Some(Making {
            file_system: partition.file_system?,
            device: if number == 0 {
                loader::DEVICE.to_owned()
            } else {
                format!("{}{number}", loader::DEVICE)
            },
            uuid: settled[index].uuid,
            label: partition.label.as_deref(),
            mkfs_options: &partition.mkfs_options,
            loaders: if is_boot { &self.plan.boot } else { &[] },
            epoch: self.epoch.unix_seconds(),
        })
    }

    /// For messages.
    fn file_system_name(&self, index: usize, making: &Making) -> String {
        match self.number(index) {
            0 => format!("{} of the disk", making.file_system.name()),
            number => format!("{} of partition {number}", making.file_system.name()),
        }
    }

    /// Makes the file systems.
    fn fill(
        &self,
        image: &StoredImage,
        tree: &Tree,
        file: &File,
        layout: &Layout,
        settled: &[Settled],
        work: &Work,
    ) -> Result<(), Error> {
        let mut steps = Vec::new();
        for index in 0..self.plan.partitions.len() {
            let Some(making) = self.making(index, settled) else { continue };
            let range = &layout.partitions[index];
            let filling = self.filling(index, tree, range.end - range.start)?;
            let name = self.file_system_name(index, &making);
            let task = Task { name, script: making.script(filling.as_ref()) };
            steps.push(self.step(Stage::Disk, &task, &[]));
        }
        let epoch = format!("export SOURCE_DATE_EPOCH={} TZ=UTC\n", self.epoch.unix_seconds());
        for task in &work.on_disk {
            let task = Task { name: task.name.clone(), script: format!("{epoch}{}", task.script) };
            steps.push(self.step(Stage::Disk, &task, &[]));
        }
        if steps.is_empty() {
            return Ok(());
        }
        self.blank(file, layout)?;
        self.surroundings.phase("making file systems");
        self.run_on_disk(image, file, steps)
    }

    /// Takes away what was on the partitions with a file system, so that nothing of it shows through.
    fn blank(&self, file: &File, layout: &Layout) -> Result<(), Error> {
        use rustix::fs::{FallocateFlags, fallocate};
        for (index, range) in layout.partitions.iter().enumerate() {
            if self.plan.partitions[index].file_system.is_some() && self.plan.table != Table::None {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(file, punch, range.start, range.end - range.start)
                    .map_err(|errno| scratch::write_failed(self.surroundings.store, errno.into()))?;
            }
        }
        Ok(())
    }

    /// What goes onto a partition of this size.
    pub(super) fn filling<'s>(
        &'s self,
        index: usize,
        tree: &Tree,
        bytes: u64,
    ) -> Result<Option<Filling<'s>>, Error> {
        let Some(path) = self.plan.partitions[index].mount_path() else { return Ok(None) };
        let (_, top) = survey::find(tree, path).ok_or_else(|| Kind::NotInImage { path: path.to_owned() })?;
        let below = |other: &&str| {
            *other != path
                && (path.is_empty() || other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        };
        let mounts = self.plan.partitions.iter().filter_map(|partition| partition.mount_path());
        let mut paths: Vec<&str> = mounts.filter(below).collect();
        paths.sort_unstable();
        // Of one mount point within another, the outer one hides the inner one.
        let outermost: Vec<&str> = paths
            .iter()
            .filter(|inner| {
                !paths.iter().any(|outer| inner.strip_prefix(*outer).is_some_and(|r| r.starts_with('/')))
            })
            .copied()
            .collect();
        let masked = outermost.into_iter().filter_map(|path| {
            let (_, id) = survey::find(tree, path)?;
            let metadata = &tree.node(id).metadata;
            Some(Masked {
                path: path.to_owned(),
                mode: metadata.mode,
                uid: metadata.uid,
                gid: metadata.gid,
                mtime: metadata.mtime.max(0),
            })
        });
        let metadata = &tree.node(top).metadata;
        let (mode, uid, gid) = (metadata.mode, metadata.uid, metadata.gid);
        let inodes = file_system::inodes(bytes, self.contents(index, tree).inodes);
        Ok(Some(Filling { path, masked: masked.collect(), mode, uid, gid, inodes }))
    }

    /// What a tool leaves to chance.
    fn put_right(&self, file: &File, layout: &Layout) -> Result<(), Error> {
        for (index, range) in layout.partitions.iter().enumerate() {
            if self.plan.partitions[index].file_system == Some(FileSystem::Btrfs) {
                super::btrfs::canonicalise(file, range.clone(), self.epoch.unix_seconds())?;
            }
        }
        if self.plan.table == Table::None && self.plan.size.is_none() {
            self.cut(file)?;
        }
        Ok(())
    }

    /// The estimate may have been too large.
    fn cut(&self, file: &File) -> Result<(), Error> {
        let [PartitionPlan { file_system: Some(file_system), size: PartitionSize::Fit { .. }, .. }] =
            &self.plan.partitions[..]
        else {
            return Ok(());
        };
        let failed = |source| scratch::write_failed(self.surroundings.store, source);
        read_only::cut(file, *file_system).map_err(failed)
    }

    fn write_boot_code(&self, file: &File, work: &Work, image: &StoredImage) -> Result<(), Error> {
        let Some(BootCode { path, is_in_toolbox }) = &work.boot_code else { return Ok(()) };
        let image = if *is_in_toolbox { self.toolbox } else { image };
        let (tree, sources) = (self.tree(image)?, Sources::new(self.surroundings.store, &image.layers));
        let found = survey::find(&tree, path).ok_or_else(|| Kind::NotInImage { path: path.clone() })?;
        let code = contents::read_file(&tree, &sources, found.1, path, BOOT_CODE_MAX)?;
        file.write_all_at(&code, 0).map_err(|source| scratch::write_failed(self.surroundings.store, source))
    }
}

/// Directories that a system needs before it can mount anything
/// ([file-hierarchy(7)](https://man7.org/linux/man-pages/man7/file-hierarchy.7.html)).
const DIRECTORIES: [(&str, u16); 5] =
    [("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("run", 0o755), ("tmp", 0o1777)];
/// What menus show where the system has no name.
const DEFAULT_TITLE: &str = "Linux";
const OS_RELEASE: &str = "etc/os-release";
/// Far more than it has, in bytes.
const OS_RELEASE_MAX: u64 = 1 << 16;
/// Largest kernel or initial RAM disk that goes into a unified kernel image, in bytes.
const BOOT_FILE_MAX: u64 = 1 << 30;
/// The first sector's code, before the disk's identifier and the table
/// ([layout](https://en.wikipedia.org/wiki/Master_boot_record#Sector_layout)).
const BOOT_CODE_MAX: u64 = 440;
/// GRUB's modules, fonts and translations, in bytes.
const LOADER_ROOM: u64 = 24 << 20;

/// Takes a layer that nobody sends.
struct Nothing;

impl LayerReceiver for Nothing {
    fn receive(&mut self, _record: LayerRecord) -> Result<(), Error> {
        Err(Kind::OutOfOrder("a layer that was not asked for").into())
    }
}
