use super::*;
use crate::board::{INDIRECT, NEXT, WRITE};
use crate::seed;

fn buffer(flags: u16, length: u32, address: u64) -> Step {
    Step::Buffer { flags: flags as u8, next: 0, length, address }
}

fn entry(place: u16, flags: u16, next: u16, length: u32, address: u32) -> Step {
    Step::Entry { place, flags: flags as u8, next, length, address }
}

/// A request over one disk after the other: over its end, read, written, cleared, by an indirect table.
#[test]
fn device_and_oracle_agree() {
    let request = |kind, sector, data| {
        let flags = if kind == 0 { WRITE } else { 0 };
        let chain = [buffer(NEXT, 16, 0), buffer(NEXT | flags, data, 0x400), buffer(WRITE, 1, 0x20)];
        [Step::Header { place: 0, kind, sector }]
            .into_iter()
            .chain(chain)
            .chain([Step::Offer { head: 0 }, Step::Kick])
    };
    let many: Vec<Step> =
        (0..80).flat_map(|sector| request(sector % 2, sector.into(), 512 * (sector % 5))).collect();
    let range = Step::Range { place: 0x400, flags: 1, sectors: 3, sector: 7 };
    let table = [
        entry(0x200, NEXT, 1, 16, 0),
        entry(0x210, NEXT | WRITE, 2, 512, 0x400),
        entry(0x220, WRITE, 0, 1, 0x20),
    ];
    let indirect = [buffer(INDIRECT, 48, 0x200), Step::Offer { head: 0 }, Step::Kick];
    let end = [(0, 64, 512), (1, 64, 512), (0, 63, 1024), (1, 63, 1024), (0, 63, 512)];
    let scripts: [Vec<Step>; 6] = [
        end.into_iter().flat_map(|(kind, sector, data)| request(kind, sector, data)).collect(),
        many,
        [range].into_iter().chain(request(13, 0, 16)).chain(request(0, 5, 4096)).collect(),
        [Step::Header { place: 0, kind: 0, sector: 60 }].into_iter().chain(table).chain(indirect).collect(),
        request(0, 0, 512).chain([Step::Offer { head: 1 + QUEUE_SIZE }, Step::Kick, Step::Restart]).collect(),
        [buffer(NEXT, 16, 0), buffer(0, 1, u64::MAX), Step::Offer { head: 0 }].into_iter().collect(),
    ];
    for (script, choice) in scripts.iter().flat_map(|script| (0..8).map(move |choice| (script, choice))) {
        let input = script::build(choice, script.iter().copied());
        seed::keep("block", &input);
        play(&input);
    }
}
