//! Scripts: their order, what they see, and what stays of them.

use kiln_tests::{Archive, Debian, Engine, Listed, Room, on_every_engine};

on_every_engine!(hooks_run_in_order_and_see_what_they_should, tools_lend_a_userland_to_an_image_without);

/// Every script writes its name into `order`, and fails when something is not as it should be.
const HOOKS: &str = r#"
from = "base.tar"
contents = ["tree"]

pre-mount = '''
test "$(cat $layer/etc/from-contents)" = contents
cmp $layer/etc/host.conf /etc/host.conf
test ! -e $layer/etc/passwd && test ! -e $mnt/etc/passwd
test -e /etc/passwd
echo pre-mount >>$layer/order
rm $layer/etc/unwanted
touch /usr/outside
'''

run-as-root = '''
#!/usr/bin/perl
# Not a shell, to see that the first line counts.
use strict;
use warnings FATAL => "all";
-e "/etc/passwd" && -e "/etc/from-contents" && ! -e "/etc/unwanted" && ! -e "/usr/outside" or die "tree";
-c "/dev/null" && -d "/proc/$$" && -d "/sys/kernel" && -w "/dev/shm" or die "mounts";
$> == 0 && $< == 0 or die "root";
$$ < 10 or die "PID namespace";
`cat /proc/self/status` =~ /^CapEff:\t0*1ffffffffff$/m or die "capabilities";
open my $order, ">>", "/order" or die;
print $order "run-as-root\n";
print STDOUT "to standard output\n";
print STDERR "to standard error\n";
# A daemon that outlives the script must not hold anything up.
if (!fork) { setpgrp; sleep 10000; }
'''

post-mount = '''
test -e $mnt/etc/passwd && test -e $mnt/etc/from-contents
test ! -e $mnt/proc/self
echo post-mount >>$mnt/order
rm $mnt/etc/issue
'''

post-umount = '''
test "$PWD" = "$layer"
test ! -e $mnt/etc/passwd
echo post-umount >>order
'''

extra-commands = '''
test "$PWD" = "$layer"
echo extra-commands >>$layer/order
touch /usr/outside
'''
"#;

fn hooks_run_in_order_and_see_what_they_should(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let build_file = HOOKS.replace("'''\n#!", "'''#!");
    let context = room.context("context", Some(&debian), &build_file);
    room.write("context/tree/etc/from-contents", "contents");
    room.write("context/tree/etc/unwanted", "");
    // As the base has it: the hooks find it in the layer, but it is left out in the end.
    room.write("context/tree/etc/host.conf", "multi on\n");

    let outcome = room.build(&context, "image.tar", "").engine(engine).args(["--timeout", "100s"]).run();
    outcome.succeeds().says("to standard output").says("to standard error").leaves_no_process();
    let archive = Archive::at(&room.path("image.tar"));
    let paths: Vec<String> = archive.list_last_layer().into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, ["etc/", "etc/from-contents", "etc/.wh.issue", "order"]);
    let root = archive.unpack(&room.path("unpacked"));
    let order = std::fs::read_to_string(root.join("order")).expect("it was written");
    assert_eq!(order, "pre-mount\nrun-as-root\npost-mount\npost-umount\nextra-commands\n");
}

fn tools_lend_a_userland_to_an_image_without(engine: Engine) {
    let debian = Debian::get();
    let room = Room::with_debian(&debian);
    let build_file =
        "tools = 'base.tar'\ncontents = ['tree']\nextra-commands = 'chown 7:8 file; ln -s file link'\n";
    let context = room.context("context", Some(&debian), build_file);
    room.write("context/tree/file", "text");

    room.build(&context, "image.tar", "").engine(engine).run().succeeds();
    let archive = Archive::at(&room.path("image.tar"));
    assert_eq!(archive.layers().len(), 1);
    let summary = |entry: &Listed| format!("{} {} {}", &entry.mode[..1], entry.owner, entry.path);
    let listed: Vec<_> = archive.list_last_layer().iter().map(summary).collect();
    assert_eq!(listed, ["- 7/8 file", "l 0/0 link"]);
}
