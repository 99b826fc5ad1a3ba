//! The same processors on all hosts.

mod hosts;

use super::*;
use crate::cpu::feature::{FEATURES, HT, Needed, Word};
use hosts::{EXCAVATOR, HASWELL, Host, IVY_BRIDGE, NEHALEM, SAPPHIRE_RAPIDS, WITH_V2_ONLY, WITH_V3, ZEN_4};
use proptest::prelude::*;

const ONE: Processor = Processor { id: 0, cpus: 1 };
const WORDS: [Word; 9] = [
    Word::Leaf1Ecx,
    Word::Leaf1Edx,
    Word::Leaf6Eax,
    Word::Leaf7Ebx,
    Word::LeafD1Eax,
    Word::Extended1Ecx,
    Word::Extended1Edx,
    Word::Extended7Edx,
    Word::KvmEax,
];

/// The words of the models. Programs of a build can see them: a change is for the release notes.
const V3_WORDS: [u32; 9] =
    [0xb7f8_3203, 0x0789_bb7d, 4, 0x0000_012b, 1, 0x0000_0021, 0x2810_0800, 0x100, 0x0100_004a];
const V2_WORDS: [u32; 9] = [0x81b8_2201, 0x0789_bb7d, 4, 0, 0, 0x0000_0001, 0x2810_0800, 0x100, 0x0100_004a];

fn register(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> Option<[u32; 4]> {
    let leaf = leaves.iter().find(|leaf| (leaf.function, leaf.index) == (function, index))?;
    Some([leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
}

fn words(leaves: &[kvm_cpuid_entry2]) -> [u32; 9] {
    WORDS.map(|word| {
        let (function, index, at) = word.place();
        register(leaves, function, index).map_or(0, |registers| registers[at as usize])
    })
}

/// The leaves that are for a vendor: its name, its model, its caches.
fn without_vendors_own(leaves: &[kvm_cpuid_entry2]) -> Vec<kvm_cpuid_entry2> {
    let common = leaves
        .iter()
        .filter(|leaf| !matches!(leaf.function, 0 | 2 | 4 | 0x8000_0000 | 0x8000_0005 | 0x8000_0006));
    let mut common: Vec<_> = common.copied().collect();
    for leaf in &mut common {
        match leaf.function {
            1 => leaf.eax = 0,
            0x8000_0008 => leaf.ecx = 0,
            _ => {}
        }
    }
    common
}

#[test]
fn v3_is_the_same_on_every_host() {
    for processor in [ONE, Processor { id: 2, cpus: 4 }] {
        let of = |host: &Host| leaves(&host.supported(), processor, CpuModel::X86_64V3);
        for host in &WITH_V3 {
            assert_eq!(without_vendors_own(&of(host)), without_vendors_own(&of(&HASWELL)), "{}", host.name);
            assert_eq!(missing(&host.supported(), Level::V3), [""; 0], "{}", host.name);
        }
        assert_eq!(of(&SAPPHIRE_RAPIDS), of(&HASWELL), "to the bit with one vendor");
        assert_eq!(of(&ZEN_4), of(&EXCAVATOR), "to the bit with one vendor");
    }
    assert_eq!(words(&leaves(&HASWELL.supported(), ONE, CpuModel::X86_64V3)), V3_WORDS);
}

#[test]
fn v2_has_the_same_features_on_every_host() {
    for host in WITH_V3.iter().chain(&WITH_V2_ONLY) {
        assert_eq!(words(&leaves(&host.supported(), ONE, CpuModel::X86_64V2)), V2_WORDS, "{}", host.name);
        assert_eq!(missing(&host.supported(), Level::V2), [""; 0], "{}", host.name);
    }
}

#[test]
fn what_an_old_host_lacks_is_off_and_named() {
    let lacking = missing(&IVY_BRIDGE.supported(), Level::V3);
    assert_eq!(lacking, ["avx2", "bmi1", "bmi2", "fma", "abm", "movbe"]);
    let leaves = leaves(&IVY_BRIDGE.supported(), ONE, CpuModel::X86_64V3);
    for feature in FEATURES {
        let index = WORDS.iter().position(|word| *word == feature.word).unwrap();
        let is_on = words(&leaves)[index] & feature.mask != 0;
        assert_eq!(is_on, !lacking.contains(&feature.name), "{}", feature.name);
    }
}

#[test]
fn levels_have_what_the_psabi_says() {
    let names = |level| -> Vec<_> {
        let first = FEATURES.iter().filter(|feature| feature.needed == Needed::From(level));
        first.map(|feature| feature.name).collect()
    };
    // Table 3.1 of the x86-64 psABI, by the kernel's names: CMPXCHG8B is cx8, SCE syscall, OSXSAVE xsave.
    let baseline = ["cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"];
    let v2 = ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"];
    let v3 = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"];
    assert!(baseline.iter().chain(&v2).all(|name| names(Level::V2).contains(name)));
    assert!(v3.iter().all(|name| names(Level::V3).contains(name)));
}

#[test]
fn every_feature_is_listed_once() {
    for (position, feature) in FEATURES.iter().enumerate() {
        let same = |other: &&crate::cpu::feature::Feature| {
            other.name == feature.name || (other.word == feature.word && other.mask == feature.mask)
        };
        assert_eq!(FEATURES[..position].iter().find(same), None, "{}", feature.name);
        assert!(WORDS.contains(&feature.word));
    }
}

#[test]
fn extended_states_are_those_of_the_features() {
    for host in &WITH_V3 {
        let leaves = leaves(&host.supported(), ONE, CpuModel::X86_64V3);
        // SDM volume 1, section 13.4: 512 bytes of fxsave, 64 of header, 16 half registers of 16 bytes.
        assert_eq!(register(&leaves, 0xd, 0), Some([0b111, 576, 832, 0]));
        assert_eq!(register(&leaves, 0xd, 1), Some([1, 0, 0, 0]));
        assert_eq!(register(&leaves, 0xd, 2), Some([256, 576, 0, 0]));
        assert_eq!(leaves.iter().filter(|leaf| leaf.function == 0xd).count(), 3);
    }
    let without = leaves(&NEHALEM.supported(), ONE, CpuModel::X86_64V3);
    assert_eq!(register(&without, 0xd, 0), None);
    assert_eq!(xsave::leaves(false, 0).iter().map(|leaf| leaf.ecx).collect::<Vec<_>>(), [576, 0]);
}

#[test]
fn topology_is_one_package_of_cores() {
    // Processors; bits of an APIC number; how many leaf 1 can say there are; the same of leaf 4.
    for (cpus, bits, logical, cores) in
        [(1, 0, 1, 1), (2, 1, 2, 2), (3, 2, 4, 4), (8, 3, 8, 8), (254, 8, 255, 64)]
    {
        for id in [0, cpus - 1] {
            let of = |host: &Host| leaves(&host.supported(), Processor { id, cpus }, CpuModel::X86_64V3);
            let (intel, amd) = (of(&HASWELL), of(&ZEN_4));
            let (id, count) = (u32::from(id), u32::from(cpus));
            for leaves in [&intel, &amd] {
                let leaf_1 = register(leaves, 1, 0).unwrap();
                assert_eq!(leaf_1[1].to_le_bytes(), [0, 8, logical, id as u8]);
                assert_eq!(leaf_1[3] & HT != 0, cpus > 1);
                assert_eq!(register(leaves, 0xb, 0), Some([0, 1, 0x100, id]));
                assert_eq!(register(leaves, 0xb, 1), Some([bits, count, 0x201, id]));
                assert_eq!(register(leaves, 0xb, 2), Some([0, 0, 2, id]));
                assert!(id >> bits == 0, "one package");
            }
            let shared = |index| (register(&intel, 4, index).unwrap()[0] >> 14 & 0xfff) + 1;
            assert_eq!([0, 1, 2, 3].map(shared), [1, 1, 1, 1 << bits]);
            assert_eq!((register(&intel, 4, 0).unwrap()[0] >> 26) + 1, cores);
            assert_eq!(register(&amd, 0x8000_0008, 0).unwrap()[2], bits << 12 | (count - 1));
            assert_eq!(register(&intel, 0x8000_0008, 0).unwrap()[2], 0);
        }
    }
}

#[test]
fn caches_have_one_size_in_both_vendors_words() {
    let intel = leaves(&HASWELL.supported(), ONE, CpuModel::X86_64V3);
    let bytes = |index| {
        let [_, ebx, ecx, _] = register(&intel, 4, index).unwrap();
        ((ebx >> 22) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1)
    };
    assert_eq!([0, 1, 2, 3].map(bytes), [32 << 10, 32 << 10, 256 << 10, 8 << 20]);
    assert_eq!(register(&intel, 4, 4), Some([0; 4]), "the end");
    let amd = leaves(&ZEN_4.supported(), ONE, CpuModel::X86_64V3);
    let [first, others] = [5, 6].map(|leaf| register(&amd, 0x8000_0000 + leaf, 0).unwrap());
    assert_eq!([first[2] >> 24, first[3] >> 24, others[2] >> 16], [32, 32, 256]);
    assert_eq!(others[3] >> 18, 16, "half mebibytes");
    assert_eq!(register(&amd, 4, 0), None);
}

#[test]
fn a_processor_tells_its_vendor_and_ours_is_the_rest() {
    let cases = [(HASWELL, 0x0003_06c4), (ZEN_4, 0x0083_0f10)];
    for (host, signature) in cases {
        let leaves = leaves(&host.supported(), ONE, CpuModel::X86_64V3);
        let supported = host.supported();
        for function in [0, 0x8000_0000] {
            let highest = if function == 0 { 0xd } else { 0x8000_0008 };
            let vendor = supported.leaf(0, 0).unwrap();
            let expected = [highest, vendor.ebx, vendor.ecx, vendor.edx];
            assert_eq!(register(&leaves, function, 0), Some(expected));
        }
        assert_eq!(register(&leaves, 1, 0).unwrap()[0], signature);
        assert_eq!(brand(&leaves), "kiln x86-64-v3");
        assert_eq!(register(&leaves, 0x8000_0008, 0).unwrap()[0], 0x3027);
    }
}

fn brand(leaves: &[kvm_cpuid_entry2]) -> String {
    let parts = (0x8000_0002..=0x8000_0004).filter_map(|function| register(leaves, function, 0));
    let bytes: Vec<u8> = parts.flatten().flat_map(u32::to_le_bytes).collect();
    String::from_utf8(bytes).unwrap().trim_end_matches('\0').to_owned()
}

#[test]
fn the_hosts_own_processor_has_all_but_its_topology() {
    let processor = Processor { id: 1, cpus: 3 };
    let intel = leaves(&SAPPHIRE_RAPIDS.supported(), processor, CpuModel::Host);
    let before = SAPPHIRE_RAPIDS.leaves();
    assert_eq!(register(&intel, 7, 0), register(&before, 7, 0));
    assert_eq!(register(&intel, 0xd, 0), register(&before, 0xd, 0));
    assert_eq!(register(&intel, 1, 0).unwrap(), [0x806f8, 0x0104_0800, 0xf7fa_3203, 0x1f8b_fbff]);
    assert_eq!(register(&intel, 4, 0).unwrap()[0], 0x0c00_0121);
    assert_eq!(register(&intel, 4, 3).unwrap()[0], 0x0c00_c163);
    assert_eq!(register(&intel, 0xb, 1), Some([2, 3, 0x201, 1]));
    assert_eq!(register(&intel, 0x1f, 0), None);
    assert_eq!(register(&intel, 0x4000_0001, 0), Some([V3_WORDS[8], 0, 0, 0]));
    let amd = leaves(&ZEN_4.supported(), processor, CpuModel::Host);
    assert_eq!(register(&amd, 0x8000_001d, 0).unwrap()[0], 0x0121);
    assert_eq!(register(&amd, 0x8000_001d, 3).unwrap()[0], 0xc163);
    assert_eq!(register(&amd, 0x8000_001e, 0), Some([1, 1, 0, 0]));
    assert_eq!(register(&amd, 0x8000_0008, 0).unwrap()[2], 0x2002);
}

proptest! {
    #[test]
    fn nothing_is_on_that_the_host_or_the_model_lacks(
        bits in proptest::array::uniform9(any::<u32>()),
        host in 0..WITH_V3.len(),
        has_timer: bool,
        cpus in 0_u8..,
    ) {
        let mut given = WITH_V3[host].leaves();
        for (word, bits) in WORDS.into_iter().zip(bits) {
            let (function, index, at) = word.place();
            for leaf in given.iter_mut().filter(|leaf| (leaf.function, leaf.index) == (function, index)) {
                *[&mut leaf.eax, &mut leaf.ebx, &mut leaf.ecx, &mut leaf.edx][at as usize] = bits;
            }
        }
        let supported = Supported::new(given.clone(), has_timer);
        let processor = Processor { id: cpus.saturating_sub(1), cpus };
        let taken = leaves(&supported, processor, CpuModel::X86_64V3);
        for ((word, on), model) in WORDS.into_iter().zip(words(&taken)).zip(V3_WORDS) {
            let on = if word == Word::Leaf1Edx { on & !HT } else { on };
            prop_assert_eq!(on & !(supported.word(word) & model), 0);
        }
        given.reverse();
        let reversed = Supported::new(given, has_timer);
        prop_assert_eq!(&leaves(&reversed, processor, CpuModel::X86_64V3), &taken);
        let is_ascending = |pair: &[kvm_cpuid_entry2]| (pair[0].function, pair[0].index) < (pair[1].function, pair[1].index);
        prop_assert!(taken.windows(2).all(is_ascending));
    }
}
