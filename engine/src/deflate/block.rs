//! Headers of deflate blocks (RFC 1951, 3.2.3 to 3.2.7): what kind a block is, and the tables of its codes.

use super::table::{
    LITLEN_BITS, LITLEN_RESULTS, LITLEN_SYMBOLS, OFFSET_BITS, OFFSET_RESULTS, OFFSET_SYMBOLS,
    PRECODE_BITS, PRECODE_ENTRIES, PRECODE_RESULTS, PRECODE_SYMBOLS, build,
};
use super::{DeflateError, Inflate, Stage};

impl Inflate {
    /// Reads a block's header, and of a dynamic one makes the tables.
    pub(super) fn block(&mut self, input: &[u8]) -> Result<(), DeflateError> {
        self.is_last_block = self.take(input, 1)? == 1;
        match self.take(input, 2)? {
            0 => self.stored_header(input),
            1 => {
                let mut lengths = [8; LITLEN_SYMBOLS];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                self.make_tables(&lengths, &[5; OFFSET_SYMBOLS])
            }
            2 => self.dynamic_header(input),
            _ => Err(DeflateError::Damaged),
        }
    }

    fn stored_header(&mut self, input: &[u8]) -> Result<(), DeflateError> {
        self.go_to_byte();
        let [a, b, c, d] = input[self.bits.at..].first_chunk().ok_or(DeflateError::Damaged)?;
        let len = u16::from_le_bytes([*a, *b]);
        if len != !u16::from_le_bytes([*c, *d]) {
            return Err(DeflateError::Damaged);
        }
        self.bits.at += 4;
        self.stage = Stage::Stored { left: usize::from(len) };
        Ok(())
    }

    fn dynamic_header(&mut self, input: &[u8]) -> Result<(), DeflateError> {
        /// The order in which the lengths of the precode are written.
        const ORDER: [u8; PRECODE_SYMBOLS] =
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let litlen_count = 257 + self.take(input, 5)? as usize;
        let offset_count = 1 + self.take(input, 5)? as usize;
        let precode_count = 4 + self.take(input, 4)? as usize;
        let mut precode_lengths = [0; PRECODE_SYMBOLS];
        for &symbol in &ORDER[..precode_count] {
            precode_lengths[usize::from(symbol)] = self.take(input, 3)? as u8;
        }
        let mut precode = [0; PRECODE_ENTRIES];
        if !build(&mut precode, PRECODE_BITS, &PRECODE_RESULTS, &precode_lengths) {
            return Err(DeflateError::Damaged);
        }
        // Both alphabets' lengths are written as one list; a repetition may go from one into the other.
        let mut lengths = [0_u8; LITLEN_SYMBOLS + OFFSET_SYMBOLS + 138];
        let count = litlen_count + offset_count;
        let mut at = 0;
        while at < count {
            self.fill(input);
            let entry = precode[self.bits.word as usize & (PRECODE_ENTRIES - 1)];
            self.drop_bits(entry & 0xff)?;
            let (len, times) = match entry >> 16 {
                16 if at == 0 => return Err(DeflateError::Damaged),
                16 => (lengths[at - 1], 3 + self.take(input, 2)? as usize),
                17 => (0, 3 + self.take(input, 3)? as usize),
                18 => (0, 11 + self.take(input, 7)? as usize),
                len => {
                    lengths[at] = len as u8;
                    at += 1;
                    continue;
                }
            };
            lengths[at..at + times].fill(len);
            at += times;
        }
        if at != count {
            return Err(DeflateError::Damaged);
        }
        self.make_tables(&lengths[..litlen_count], &lengths[litlen_count..count])
    }

    fn make_tables(&mut self, litlen: &[u8], offsets: &[u8]) -> Result<(), DeflateError> {
        self.stage = Stage::Symbols;
        if build(&mut self.litlen[..], LITLEN_BITS, &LITLEN_RESULTS, litlen)
            && build(&mut self.offsets[..], OFFSET_BITS, &OFFSET_RESULTS, offsets)
        {
            return Ok(());
        }
        Err(DeflateError::Damaged)
    }
}
