//! gzip members (RFC 1952): the header, and what the trailer says before anything is believed.

/// Bytes of a gzip member's header (RFC 1952); `None` where it is none or not whole.
pub(super) fn header_len(bytes: &[u8]) -> Option<usize> {
    const CRC: u8 = 2;
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const RESERVED: u8 = 0xe0;
    let [0x1f, 0x8b, 8, flags, ..] = *bytes.first_chunk::<10>()? else { return None };
    if flags & RESERVED != 0 {
        return None;
    }
    let mut at = 10;
    if flags & EXTRA != 0 {
        let len = u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
        at += 2 + usize::from(len);
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            at += memchr::memchr(0, bytes.get(at..)?)? + 1;
        }
    }
    if flags & CRC != 0 {
        at += 2;
    }
    (at <= bytes.len()).then_some(at)
}

/// The size in the last member's trailer: the true one modulo 2^32 of an honest body of one member.
pub(super) fn claimed_size(body: &[u8]) -> usize {
    body.last_chunk().map_or(0, |&bytes| u32::from_le_bytes(bytes) as usize)
}
