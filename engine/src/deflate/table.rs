//! Huffman tables of a deflate block: one look-up decodes a codeword, and says how long it was.
//!
//! A table of 2^n entries is indexed by the next n bits; longer codewords go on in a subtable. Entries are made as libdeflate
//! makes them (<https://github.com/ebiggers/libdeflate>, `lib/deflate_decompress.c`, v1.25), so that the hot loop shifts by an
//! entry without taking it apart:
//!
//! ```text
//!            31  30..16           15  14  13  12..8                 7..0
//! literal    1   the byte         0   0   0   bits of the codeword  the same
//! length     0   base             0   0   0   bits of the codeword  the same, and its extra bits
//! offset     0   base             0   0   0   bits of the codeword  the same, and its extra bits
//! subtable   0   where it starts  1   1   0   bits of its index     bits of the main table
//! block end  0   0                1   0   1   bits of the codeword  the same
//! no symbol  0   0                1   0   0   bits of the codeword  the same
//! ```

/// Set in entries that stand for a byte.
pub(super) const LITERAL: u32 = 1 << 31;
/// Set in everything but literals, lengths and offsets.
pub(super) const EXCEPTIONAL: u32 = 1 << 15;
/// Set in an entry that leads to a subtable.
pub(super) const SUBTABLE: u32 = 1 << 14;
/// Set in the entry of the block's end.
pub(super) const BLOCK_END: u32 = 1 << 13;

/// Longest codeword of literals, lengths and offsets.
pub(super) const CODEWORD_BITS_MAX: u32 = 15;

/// Index bits of the main tables. Most codewords of real blocks are shorter.
pub(super) const LITLEN_BITS: u32 = 11;
pub(super) const OFFSET_BITS: u32 = 8;
pub(super) const PRECODE_BITS: u32 = 7;

/// Entries that the subtables of any complete code can take beside the main table: zlib's `enough 288 11 15`, `enough 32 8 15`.
pub(super) const LITLEN_ENTRIES: usize = 2342;
pub(super) const OFFSET_ENTRIES: usize = 402;
pub(super) const PRECODE_ENTRIES: usize = 1 << PRECODE_BITS;

/// Symbols of each alphabet.
pub(super) const LITLEN_SYMBOLS: usize = 288;
pub(super) const OFFSET_SYMBOLS: usize = 32;
pub(super) const PRECODE_SYMBOLS: usize = 19;

const fn length_or_offset(base: u32, extra_bits: u32) -> u32 {
    base << 16 | extra_bits
}

const LENGTHS: [(u32, u32); 31] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
    (0, 0),
    (0, 0),
];

/// What the entry of each literal and length is before its codeword is known. Symbols 286 and 287 may have a codeword and must
/// not occur.
pub(super) const LITLEN_RESULTS: [u32; LITLEN_SYMBOLS] = {
    let mut results = [0; LITLEN_SYMBOLS];
    let mut symbol = 0;
    while symbol < LITLEN_SYMBOLS {
        results[symbol] = match symbol {
            0..256 => LITERAL | (symbol as u32) << 16,
            256 => EXCEPTIONAL | BLOCK_END,
            286.. => EXCEPTIONAL,
            _ => {
                let (base, extra_bits) = LENGTHS[symbol - 257];
                length_or_offset(base, extra_bits)
            }
        };
        symbol += 1;
    }
    results
};

/// The same of each offset; 30 and 31 must not occur.
pub(super) const OFFSET_RESULTS: [u32; OFFSET_SYMBOLS] = {
    let mut results = [EXCEPTIONAL; OFFSET_SYMBOLS];
    let mut symbol = 0;
    while symbol < 30 {
        let extra_bits = if symbol < 4 { 0 } else { symbol as u32 / 2 - 1 };
        let base = if symbol < 4 {
            symbol as u32 + 1
        } else {
            ((2 + symbol as u32 % 2) << extra_bits) + 1
        };
        results[symbol] = length_or_offset(base, extra_bits);
        symbol += 1;
    }
    results
};

/// The same of each symbol of the code that code lengths are written in: the symbol itself.
pub(super) const PRECODE_RESULTS: [u32; PRECODE_SYMBOLS] = {
    let mut results = [0; PRECODE_SYMBOLS];
    let mut symbol = 0;
    while symbol < PRECODE_SYMBOLS {
        results[symbol] = (symbol as u32) << 16;
        symbol += 1;
    }
    results
};

/// The entry of a symbol whose codeword has `bits` bits at this level.
#[inline]
fn entry(result: u32, bits: u32) -> u32 {
    result + (bits << 8) + bits
}

/// Fills a table from the codeword length of each symbol, 0 for none. `false` for lengths that make no complete prefix code;
/// an alphabet of one symbol or none needs no complete one, as zlib writes it where a block has no match.
pub(super) fn build(table: &mut [u32], table_bits: u32, results: &[u32], lengths: &[u8]) -> bool {
    let mut counts = [0_u32; CODEWORD_BITS_MAX as usize + 1];
    for &len in lengths {
        counts[usize::from(len)] += 1;
    }
    let mut starts = [0_u32; CODEWORD_BITS_MAX as usize + 2];
    let mut codespace = 0_u32;
    for len in 1..=CODEWORD_BITS_MAX as usize {
        starts[len + 1] = starts[len] + counts[len];
        codespace += counts[len] << (CODEWORD_BITS_MAX as usize - len);
    }
    let mut sorted = [0_u16; LITLEN_SYMBOLS];
    for (symbol, &len) in lengths.iter().enumerate() {
        if len > 0 {
            let at = &mut starts[usize::from(len)];
            sorted[*at as usize] = symbol as u16;
            *at += 1;
        }
    }
    let used = lengths.len() - counts[0] as usize;
    let sorted = &sorted[..used];
    let main_entries = 1_usize << table_bits;
    if codespace != 1 << CODEWORD_BITS_MAX {
        if codespace > 1 << CODEWORD_BITS_MAX || used > 1 || used == 1 && counts[1] != 1 {
            return false;
        }
        let symbol = sorted.first().copied().unwrap_or(0);
        table[..main_entries].fill(entry(results[usize::from(symbol)], 1));
        return true;
    }
    fill(table, table_bits, results, sorted, &mut counts);
    true
}

/// Fills a table from the symbols in the order of their codewords: a complete code with at least two of them.
fn fill(
    table: &mut [u32],
    table_bits: u32,
    results: &[u32],
    sorted: &[u16],
    counts: &mut [u32; CODEWORD_BITS_MAX as usize + 1],
) {
    let mut symbols = sorted.iter().map(|&symbol| results[usize::from(symbol)]);
    let mut next = || symbols.next().expect("a complete code has a symbol for each codeword");
    let mut len = 1;
    while counts[len as usize] == 0 {
        len += 1;
    }
    // The part of the table that is filled; codewords of the next length repeat it.
    let mut end = 1_usize << len;
    let mut codeword = 0_usize;
    while len <= table_bits {
        for _ in 0..counts[len as usize] {
            table[codeword] = entry(next(), len);
            if codeword == end - 1 {
                while len < table_bits {
                    table.copy_within(..end, end);
                    end *= 2;
                    len += 1;
                }
                return;
            }
            codeword = next_codeword(codeword, end - 1);
        }
        loop {
            len += 1;
            if len <= table_bits {
                table.copy_within(..end, end);
                end *= 2;
            }
            if counts[len as usize] != 0 {
                break;
            }
        }
    }
    let mask = (1_usize << table_bits) - 1;
    end = 1 << table_bits;
    let (mut prefix, mut start) = (usize::MAX, 0);
    loop {
        if codeword & mask != prefix {
            prefix = codeword & mask;
            start = end;
            let mut bits = len - table_bits;
            let mut used = counts[len as usize];
            while used < 1 << bits {
                bits += 1;
                used = (used << 1) + counts[(table_bits + bits) as usize];
            }
            end = start + (1 << bits);
            table[prefix] = (start as u32) << 16 | EXCEPTIONAL | SUBTABLE | bits << 8 | table_bits;
        }
        let found = entry(next(), len - table_bits);
        let stride = 1 << (len - table_bits);
        let mut at = start + (codeword >> table_bits);
        while at < end {
            table[at] = found;
            at += stride;
        }
        let last = (1_usize << len) - 1;
        if codeword == last {
            return;
        }
        codeword = next_codeword(codeword, last);
        counts[len as usize] -= 1;
        while counts[len as usize] == 0 {
            len += 1;
        }
    }
}

/// The next codeword of the same length; codewords are kept with their first bit lowest. `last` is the one of ones.
#[inline]
fn next_codeword(codeword: usize, last: usize) -> usize {
    let bit = 1 << (codeword ^ last).ilog2();
    codeword & (bit - 1) | bit
}
