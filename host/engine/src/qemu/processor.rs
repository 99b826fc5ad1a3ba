//! What the emulated processor looks like: the same models as on KVM, so that a build sees the same
//! features wherever it runs.

use crate::CpuModel;
use kiln_vmm::program_features;

/// QEMU's oldest 64-bit model, which its newer versions must not change, less what other models of the
/// time lack. Family, model and stepping are those that `kiln-vmm` gives on Intel hosts.
const BASE: &str = "qemu64,-vme,-mce,-mca,-pse36,-ht,-svm,-3dnow,-3dnowext,-sse4a,-mmxext,-ss,\
    phys-bits=39,vendor=GenuineIntel,family=6,model=60,stepping=4";

/// Everything that QEMU can emulate, but for what makes it slow. It executes `rep stosb` and `rep movsb`
/// byte by byte, so nobody should use them; and every `stac` and `clac`, hence every copy between kernel
/// and programs, ends a translation block. (No other model has these two.)
const EVERYTHING: &str = "max,-erms,-smap";

/// The value of `-cpu`.
pub(super) fn argument(model: CpuModel) -> String {
    if model == CpuModel::Host {
        return EVERYTHING.to_owned();
    }
    let features = program_features(model).map(|name| format!(",+{}", qemu_name(name)));
    format!("{BASE},model-id=kiln {model}{}", features.collect::<String>())
}

/// Names of `/proc/cpuinfo` as QEMU spells them.
fn qemu_name(name: &str) -> String {
    match name {
        "pni" => "sse3".to_owned(),
        "sse4_1" | "sse4_2" => name.replace('_', "."),
        _ => name.replace('_', "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_list_of_features_in_qemus_spelling() {
        let v2 = argument(CpuModel::X86_64V2);
        assert!(v2.contains(",model-id=kiln x86-64-v2,"), "{v2}");
        for feature in ["+sse3", "+sse4.1", "+sse4.2", "+lahf-lm", "+cx16"] {
            assert!(v2.split(',').any(|word| word == feature), "{feature} is not in {v2}");
        }
        assert!(!v2.contains("avx"), "{v2}");
        assert!(argument(CpuModel::X86_64V3).contains(",+avx2,"));
    }
}
