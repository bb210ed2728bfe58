//! Strings of one partition, each once, in pages that are never moved when full.

use super::StringId;
use super::column;
use super::table::Table;

/// Bytes of a page. A growing arena of one piece would be copied whole now and then; pages bound the copy.
const PAGE_BYTES: usize = 64 << 10;

/// A longer string gets a page of its own, so that a page never wastes more than this at its end.
const SHARED_STRING_BYTES_MAX: usize = PAGE_BYTES / 16;

/// Capacity of the first page at its start: many partitions are small.
const FIRST_PAGE_BYTES: usize = 2 << 10;

/// The table. Row 0 is the empty string.
#[derive(Debug)]
pub(super) struct StringTable {
    pages: Vec<String>,
    open: usize,
    places: Vec<Place>,
    by_content: Table<Entry>,
    pages_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    page: u32,
    /// Start within the page in the upper half, length in the lower; a string with its own page has length `u16::MAX`
    /// where it is longer.
    start_len: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Lower half of the content hash: a rehash need not read the strings, which may be long.
    hash: u32,
    id: u32,
}

impl Default for StringTable {
    fn default() -> Self {
        let mut table = Self {
            pages: vec![String::new()],
            open: 0,
            places: Vec::new(),
            by_content: Table::default(),
            pages_bytes: 0,
        };
        column::push(&mut table.places, Place { page: 0, start_len: 0 });
        table
    }
}

impl StringTable {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, id: StringId) -> &str {
        let place = self.places[id.0 as usize];
        let page = &self.pages[place.page as usize];
        match (place.start_len >> 16, place.start_len & 0xffff) {
            (0, 0xffff) => page,
            (start, len) => &page[start as usize..(start + len) as usize],
        }
    }

    /// The id of a text whose keyed content hash is `hash`; compared byte by byte, so a hit is exact.
    pub(super) fn intern(&mut self, text: &str, hash: u128) -> StringId {
        if text.is_empty() {
            return StringId(0);
        }
        let hash = hash as u32;
        let found = self
            .by_content
            .find(spread(hash), |e| e.hash == hash && self.get(StringId(e.id)) == text);
        if let Some(entry) = found {
            return StringId(entry.id);
        }
        let id = self.places.len() as u32;
        let place = self.store(text);
        column::push(&mut self.places, place);
        self.by_content.insert(spread(hash), Entry { hash, id }, |e| spread(e.hash));
        StringId(id)
    }

    fn store(&mut self, text: &str) -> Place {
        if text.len() > SHARED_STRING_BYTES_MAX {
            self.pages_bytes += text.len();
            self.pages.push(text.into());
            let start_len = text.len().min(usize::from(u16::MAX)) as u32;
            return Place { page: self.pages.len() as u32 - 1, start_len };
        }
        let page = &mut self.pages[self.open];
        if page.len() + text.len() > PAGE_BYTES {
            self.pages.push(String::with_capacity(PAGE_BYTES));
            self.pages_bytes += PAGE_BYTES;
            self.open = self.pages.len() - 1;
        } else if page.len() + text.len() > page.capacity() {
            // Only the first page grows; it doubles up to a whole page.
            self.pages_bytes -= page.capacity();
            let bytes = (page.capacity() * 2)
                .max(FIRST_PAGE_BYTES)
                .max((page.len() + text.len()).next_power_of_two())
                .min(PAGE_BYTES);
            page.reserve_exact(bytes - page.len());
            self.pages_bytes += page.capacity();
        }
        let page = &mut self.pages[self.open];
        let start = page.len() as u32;
        page.push_str(text);
        Place { page: self.open as u32, start_len: start << 16 | text.len() as u32 }
    }

    pub(super) fn bytes_held(&self) -> usize {
        self.pages_bytes
            + column::bytes(&self.pages)
            + column::bytes(&self.places)
            + self.by_content.bytes_held()
    }

    #[cfg(test)]
    pub(super) fn bytes_recounted(&self) -> usize {
        self.pages.iter().map(String::capacity).sum::<usize>()
            + column::bytes(&self.pages)
            + column::bytes(&self.places)
            + self.by_content.bytes_recounted()
    }
}

/// A 64-bit table hash from 32 bits that are uniform already: the product moves them into the tag and the directory bits.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

const _: () = {
    assert!(PAGE_BYTES - 1 <= u16::MAX as usize, "a start within a page fits 16 bits");
    assert!(SHARED_STRING_BYTES_MAX < u16::MAX as usize, "only a whole page has the length 0xffff");
};

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> u128 {
        xxhash_rust::xxh3::xxh3_128(text.as_bytes())
    }

    #[test]
    fn strings_of_any_length_come_back_and_each_is_kept_once() {
        let texts: Vec<String> = (0..3000)
            .map(|i| format!("{i}{}", "é".repeat(if i % 500 == 0 { 40_000 } else { i % 97 })))
            .collect();
        let mut table = StringTable::default();
        let ids: Vec<StringId> = texts.iter().map(|t| table.intern(t, hash(t))).collect();
        for (id, text) in ids.iter().zip(&texts) {
            assert_eq!(table.get(*id), text);
            assert_eq!(table.intern(text, hash(text)), *id, "an equal string has the same id");
        }
        assert_eq!(table.len(), texts.len() + 1);
        assert_eq!(table.intern("", 0), StringId(0));
        assert_eq!(table.bytes_held(), table.bytes_recounted());
    }

    /// The hash only finds candidates: what decides is the content.
    #[test]
    fn a_forged_hash_does_not_join_two_strings() {
        let mut table = StringTable::default();
        let a = table.intern("a", 7);
        let b = table.intern("b", 7);
        assert_ne!(a, b);
        assert_eq!((table.get(a), table.get(b)), ("a", "b"));
    }
}
