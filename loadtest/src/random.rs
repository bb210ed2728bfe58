//! Numbers that look random and follow from a seed: a run can be repeated, and its oracle can make the same ones again.

/// Scrambles a number (the finisher of `SplitMix64`): equal in, equal out, neighbours far apart.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A share of 1, in 53 bits.
pub fn unit(number: u64) -> f64 {
    (mix(number) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_evenly_below_one() {
        let shares: Vec<f64> = (0..10_000).map(unit).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        let below_half = shares.iter().filter(|share| **share < 0.5).count();
        assert!((4_700..5_300).contains(&below_half), "{below_half}");
    }
}
