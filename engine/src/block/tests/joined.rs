//! Laws of blocks that share tables of symbols: many blocks answer what one does, whatever else is read meanwhile, and however
//! little the cache keeps.

use super::*;

/// A block with its files.
type Block = (Arc<BlockReader>, Files);

/// Each push in one of some blocks.
fn blocks_of(pushes: &[Pushed], count: usize) -> Vec<Block> {
    let of = |block: usize| {
        let of_block: Vec<Pushed> = pushes.iter().skip(block).step_by(count).cloned().collect();
        let files = block_as(ULID + block as u128, &mut heads_of(&of_block))?;
        Some((open(&files).unwrap(), files))
    };
    (0..count).filter_map(of).collect()
}

fn bytes_of(blocks: &[Block], of: &Arc<BlockReader>, ranges: &[ByteRange]) -> Vec<Bytes> {
    let (_, files) = blocks.iter().find(|(reader, _)| Arc::ptr_eq(reader, of)).unwrap();
    let read = |range: &ByteRange| {
        let (start, end) = (range.offset as usize, (range.offset + range.bytes) as usize);
        Bytes::copy_from_slice(&files[range.file][start..end])
    };
    ranges.iter().map(read).collect()
}

/// Reads at a time, in turn; calls back before each turn.
fn ask_together(
    blocks: &[Block],
    requests: &[SelectRequest],
    cache: &SymbolCache,
    mut before_turn: impl FnMut(),
) -> Vec<SelectReply> {
    let heads = heads_of(&[]);
    let readers: Arc<[_]> = blocks.iter().map(|(reader, _)| Arc::clone(reader)).collect();
    let mut selects: Vec<_> = requests
        .iter()
        .map(|request| {
            let mut select = Select::new(request.clone(), &secret()).unwrap();
            select.read_blocks(Arc::clone(&readers), cache);
            (select, None)
        })
        .collect();
    while selects.iter().any(|(_, reply)| reply.is_none()) {
        for (select, reply) in selects.iter_mut().filter(|(_, reply)| reply.is_none()) {
            before_turn();
            match select.advance(&heads) {
                Progress::More => {}
                Progress::NeedsData { block, ranges } => {
                    select.provide(bytes_of(blocks, &block, &ranges));
                }
                Progress::Reply(answer) => *reply = Some(answer),
            }
        }
    }
    selects.into_iter().map(|(_, reply)| reply.unwrap()).collect()
}

fn hold_the_same(pushes: &[Pushed], seed: u64) {
    let questions = questions();
    let heads = heads_of(pushes);
    let expected: Vec<_> =
        questions.iter().map(|request| told(ask(&heads, None, request.clone()).0)).collect();
    let check = |replies: Vec<SelectReply>, how: &str| {
        for ((reply, expected), request) in replies.into_iter().zip(&expected).zip(&questions) {
            assert_eq!(told(reply), *expected, "{how}: {request:?}");
        }
    };
    let blocks = blocks_of(pushes, 1 + seed as usize % 5);
    let whole = SymbolCache::new(1 << 20);
    check(ask_together(&blocks, &questions, &whole, || ()), "all at a time, nothing kept yet");
    check(ask_together(&blocks, &questions, &whole, || ()), "all at a time, everything kept");
    check(ask_together(&blocks, &questions, &SymbolCache::default(), || ()), "nothing is kept");
    let small = SymbolCache::new(whole.bytes_held() / 2);
    check(ask_together(&blocks, &questions, &small, || ()), "half is kept");
    let (mut state, clears) = (seed, SymbolCache::new(1 << 20));
    let clear = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if (state >> 33).is_multiple_of(7) {
            clears.clear();
        }
    };
    check(ask_together(&blocks, &questions, &clears, clear), "given up in the middle of reads");
}

#[test]
fn many_blocks_answer_what_one_does() {
    let shapes = bolero::check!().with_type::<(Vec<Shape>, u64)>();
    shapes.with_max_len(512).for_each(|(shape, seed)| hold_the_same(&pushes_of(shape), *seed));
    (0..5).for_each(|seed| hold_the_same(&sample_pushes(), seed));
}

/// Each block gave a part of its own with all of its nodes and symbols: ten blocks of a tenth cost eight times what one did.
#[test]
fn an_answer_has_one_part_of_each_partition() {
    let blocks = blocks_of(&sample_pushes(), 4);
    let request = SelectRequest::Profile { selection: selection(&[], 0, 1000), call_site: vec![] };
    let parts_of = |cache: &SymbolCache| {
        let reply = ask_together(&blocks, std::slice::from_ref(&request), cache, || ()).remove(0);
        let SelectReply::Profile(parts) = reply else { unreachable!() };
        parts.len()
    };
    let cache = SymbolCache::new(1 << 20);
    assert_eq!((parts_of(&cache), parts_of(&cache)), (3, 3), "services of one tenant");
    assert_eq!(parts_of(&SymbolCache::default()), 4 * 3, "no table outlives its block's turn");
}

#[test]
fn a_damaged_block_among_others_is_named_and_spoils_nothing() {
    let mut blocks = blocks_of(&sample_pushes(), 3);
    let request = SelectRequest::Tree { selection: selection(&[], 0, 1000), call_site: vec![] };
    let asked = |blocks: &[Block], cache: &SymbolCache| {
        ask_together(blocks, std::slice::from_ref(&request), cache, || ()).remove(0)
    };
    let (sound, cache) = (blocks[1].1.clone(), SymbolCache::new(1 << 20));
    for table in [Table::Samples, Table::Stacktraces, Table::Locations] {
        cache.clear();
        let file = table.file_name();
        let page = blocks[1].0.index().table(table).row_groups[0].chunks[1].pages[0].offset;
        blocks[1].1.get_mut(file).unwrap()[page as usize + 10] ^= 1;
        let SelectReply::Failed(failure) = asked(&blocks, &cache) else {
            panic!("{file} is damaged")
        };
        let begin = format!("block {}: {file}", blocks[1].0.meta().ulid);
        assert!(failure.message.starts_with(&begin), "{}", failure.message);
        blocks[1].1.clone_from(&sound);
        let expected = told(asked(&blocks, &SymbolCache::default()));
        assert_eq!(told(asked(&blocks, &cache)), expected, "{file} was read again");
    }
}
