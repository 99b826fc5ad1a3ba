//! xxHash with 64 bits and no seed
//! ([specification](https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md#xxh64-algorithm-description)).

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
const PRIME_3: u64 = 0x1656_67b1_9e37_79f9;
const PRIME_4: u64 = 0x85eb_ca77_c2b2_ae63;
const PRIME_5: u64 = 0x27d4_eb2f_1656_67c5;

/// Bytes of a lane, and of a stripe of one lane for each accumulator.
const LANE: usize = 8;
const STRIPE: usize = 4 * LANE;

pub(super) fn xxhash64(bytes: &[u8]) -> u64 {
    let (stripes, rest) = bytes.split_at(bytes.len() / STRIPE * STRIPE);
    let start = if stripes.is_empty() { PRIME_5 } else { converged(stripes) };
    avalanche(with_rest(start.wrapping_add(bytes.len() as u64), rest))
}

fn converged(stripes: &[u8]) -> u64 {
    let mut accumulators = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, PRIME_1.wrapping_neg()];
    for stripe in stripes.chunks_exact(STRIPE) {
        for (accumulator, lane) in accumulators.iter_mut().zip(stripe.chunks_exact(LANE)) {
            *accumulator = round(*accumulator, number(lane));
        }
    }
    let turned = accumulators.into_iter().zip([1, 7, 12, 18]);
    let sum = turned.fold(0_u64, |sum, (accumulator, by)| sum.wrapping_add(accumulator.rotate_left(by)));
    accumulators.into_iter().fold(sum, |sum, accumulator| {
        (sum ^ round(0, accumulator)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4)
    })
}

fn round(accumulator: u64, lane: u64) -> u64 {
    accumulator.wrapping_add(lane.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

/// What is left of a stripe: lanes, half a lane, bytes.
fn with_rest(mut hash: u64, rest: &[u8]) -> u64 {
    let (lanes, rest) = rest.split_at(rest.len() / LANE * LANE);
    for lane in lanes.chunks_exact(LANE) {
        hash ^= round(0, number(lane));
        hash = hash.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    }
    let (half, rest) = rest.split_at(rest.len() / (LANE / 2) * (LANE / 2));
    if !half.is_empty() {
        hash ^= number(half).wrapping_mul(PRIME_1);
        hash = hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
    }
    rest.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte).wrapping_mul(PRIME_5)).rotate_left(11).wrapping_mul(PRIME_1)
    })
}

/// Of eight bytes at most, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ hash >> 33).wrapping_mul(PRIME_2);
    hash = (hash ^ hash >> 29).wrapping_mul(PRIME_3);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `xxhsum -H64` prints them.
    #[test]
    fn hashes_are_those_of_xxhsum() {
        for (text, hash) in
            [("", 0xef46_db37_51d8_e999), ("a", 0xd24e_c4f1_a98c_6e5b), ("abc", 0x44bc_2cf5_ad77_0999)]
        {
            assert_eq!(xxhash64(text.as_bytes()), hash, "{text:?}");
        }
    }
}
