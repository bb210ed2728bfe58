//! A merged profile on its way out: a pprof message whose samples are written already.
//!
//! Samples are most of a large profile, and stacks beside each other share their callers. So they are written straight from the
//! tree, in blocks that are messages with samples and nothing else: in binary, messages of one type one after another are the message
//! that has the rows of all.

use bytes::Bytes;
use proto::pprof;

use crate::varint;

/// Samples of a block at most: what a reader takes apart at a time.
const BLOCK_SAMPLES_MAX: usize = 256;

/// Tags of `Profile.sample`, `Sample.location_id` and `Sample.value`, all with a length behind.
const SAMPLE: u8 = 2 << 3 | 2;
const LOCATION_ID: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;

/// A profile as message and as bytes.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WrittenProfile {
    /// The message, but for the samples that are written. Samples that are not may be there too.
    pub message: pprof::Profile,
    /// Messages of samples and nothing else, 256 of them at most each.
    pub samples: Vec<Bytes>,
}

impl From<pprof::Profile> for WrittenProfile {
    fn from(message: pprof::Profile) -> Self {
        Self { message, samples: Vec::new() }
    }
}

/// Writes samples.
#[derive(Debug, Default)]
pub(super) struct SampleWriter {
    blocks: Vec<Bytes>,
    block: Vec<u8>,
    in_block: usize,
}

impl SampleWriter {
    /// Adds a sample: its location ids as varints, leaf first, those of `head` before those of `stack`.
    pub(super) fn push(&mut self, head: &[u8], stack: &[u8], value: i64) {
        let value = value.cast_unsigned();
        let (ids_bytes, value_bytes) = (head.len() + stack.len(), varint::len(value));
        let of_ids = if ids_bytes == 0 { 0 } else { 1 + varint::len(ids_bytes as u64) + ids_bytes };
        let block = &mut self.block;
        block.push(SAMPLE);
        varint::put(block, (of_ids + 2 + value_bytes) as u64);
        if ids_bytes > 0 {
            block.push(LOCATION_ID);
            varint::put(block, ids_bytes as u64);
            block.extend_from_slice(head);
            block.extend_from_slice(stack);
        }
        block.extend_from_slice(&[VALUE, value_bytes as u8]);
        varint::put(block, value);
        self.in_block += 1;
        if self.in_block == BLOCK_SAMPLES_MAX {
            self.end_block();
        }
    }

    /// All blocks.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.end_block();
        self.blocks
    }

    fn end_block(&mut self) {
        if self.in_block > 0 {
            let capacity = self.block.len();
            let block = std::mem::replace(&mut self.block, Vec::with_capacity(capacity));
            self.blocks.push(block.into());
            self.in_block = 0;
        }
    }
}

/// The way from the root to a node of a tree, and location ids of it as varints, leaf first. Going on to another node writes only
/// what the two do not share.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Ascending: a parent has a smaller number than its child.
    nodes: Vec<u32>,
    /// By place in `nodes`: the length of what is written from the root to there.
    lengths: Vec<u32>,
    /// Written from the end on, so that the root is last. What is written is `bytes[start..]`.
    bytes: Vec<u8>,
    written: usize,
    below: Vec<u32>,
}

impl Path {
    /// Goes to `node`; gives its stack, and how many nodes of it were written anew. The root (0) has the empty stack.
    pub(super) fn go_to(
        &mut self,
        node: u32,
        parents: &[u32],
        mut id_of: impl FnMut(u32) -> u64,
    ) -> (&[u8], usize) {
        self.below.clear();
        let mut at = node;
        while at != 0 {
            while self.nodes.last().is_some_and(|last| *last > at) {
                self.nodes.pop();
            }
            if self.nodes.last() == Some(&at) {
                break;
            }
            self.below.push(at);
            at = parents[at as usize];
        }
        if at == 0 {
            self.nodes.clear();
        }
        self.lengths.truncate(self.nodes.len());
        self.written = self.lengths.last().map_or(0, |length| *length as usize);
        for at in self.below.iter().rev() {
            let id = id_of(*at);
            let start = self.bytes.len() - self.written;
            let length = varint::len(id);
            if length > start {
                grow(&mut self.bytes, self.written);
            }
            let start = self.bytes.len() - self.written - length;
            write(&mut self.bytes[start..start + length], id);
            self.written += length;
            self.nodes.push(*at);
            self.lengths.push(self.written as u32);
        }
        (&self.bytes[self.bytes.len() - self.written..], self.below.len())
    }
}

/// Makes room before what is written at the end.
#[cold]
fn grow(bytes: &mut Vec<u8>, written: usize) {
    const BYTES_MIN: usize = 256;
    let mut larger = vec![0; (bytes.len() * 2).max(BYTES_MIN)];
    let start = larger.len() - written;
    larger[start..].copy_from_slice(&bytes[bytes.len() - written..]);
    *bytes = larger;
}

/// Writes a varint that fills its place.
#[inline]
fn write(place: &mut [u8], mut value: u64) {
    let last = place.len() - 1;
    for byte in &mut place[..last] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    place[last] = value as u8;
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Stacks of a tree by walking from each node up, as they would be without anything shared.
    fn expected(parents: &[u32], node: u32) -> Vec<u64> {
        let mut stack = Vec::new();
        let mut at = node;
        while at != 0 {
            stack.push(u64::from(at) * 37);
            at = parents[at as usize];
        }
        stack
    }

    #[test]
    fn written_samples_are_those_of_the_tree_in_whatever_order_it_grew() {
        bolero::check!().with_type::<(Vec<u8>, i64)>().for_each(|(jumps, value)| {
            let mut parents = vec![u32::MAX];
            for at in 1..=600_u32 {
                let jump = jumps.get(at as usize % jumps.len().max(1)).copied().unwrap_or(1);
                parents.push((at - 1).saturating_sub(u32::from(jump % 8)));
            }
            let (mut path, mut writer, mut samples) =
                (Path::default(), SampleWriter::default(), Vec::new());
            for node in 0..parents.len() as u32 {
                if jumps.get(node as usize).is_some_and(|jump| jump % 3 == 0) {
                    continue;
                }
                let (stack, _) = path.go_to(node, &parents, |node| u64::from(node) * 37);
                let value = value.wrapping_add(i64::from(node));
                writer.push(&[], stack, value);
                let location_id = expected(&parents, node);
                samples.push(pprof::Sample { location_id, value: vec![value], label: Vec::new() });
            }
            let mut written = Vec::new();
            for block in writer.finish() {
                let block = pprof::Profile::decode(block).unwrap();
                assert!((1..=BLOCK_SAMPLES_MAX).contains(&block.sample.len()));
                written.extend(block.sample);
            }
            assert!(written == samples, "other samples than those of the tree");
        });
    }
}
