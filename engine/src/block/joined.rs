//! The symbols of one partition as several blocks have them: one table for all, and for each block which of its stacks is which node.
//!
//! ```text
//! block A: stack ids ─┐
//! block B: stack ids ─┼─ a node for each ─► one table of nodes, locations, functions, strings
//! block C: stack ids ─┘
//! ```
//! So a read adds the rows of all blocks up in one array, and gives one part of the whole.
//!
//! Invariants
//! - A table only grows, also between two turns of a read that uses it: nodes that were given stay what they are.
//! - What a block that turns out to be damaged has left in it are rows that no block names.

use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

use crate::hash::HashSecret;
use crate::symbols::Symbols;

/// Nodes after which a table takes no further block: a read looks at all of a table, however little it wants of it.
pub(super) const NODES_MAX: usize = 512 << 10;

/// A table that blocks share. It may be a cache's, or that of one read.
#[derive(Debug)]
pub(crate) struct Joined {
    number: u64,
    symbols: RefCell<Symbols>,
    /// Heap bytes that a cache answers for.
    bytes_kept: Cell<usize>,
    is_kept: Cell<bool>,
}

/// A block's part of a table.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) joined: Rc<Joined>,
    /// By stack of the block's partition, from its first on: its node.
    pub(crate) nodes: Rc<Vec<u32>>,
}

impl Joined {
    pub(super) fn new(number: u64, secret: &HashSecret, is_kept: bool) -> Self {
        Self {
            number,
            symbols: RefCell::new(Symbols::new(secret.clone())),
            bytes_kept: Cell::new(0),
            is_kept: Cell::new(is_kept),
        }
    }

    /// Tells it from all others of its cache.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The symbols, for no longer than a turn.
    pub(crate) fn symbols(&self) -> Ref<'_, Symbols> {
        self.symbols.borrow()
    }

    /// Adds to them.
    pub(super) fn grow<T>(&self, add: impl FnOnce(&mut Symbols) -> T) -> T {
        add(&mut self.symbols.borrow_mut())
    }

    /// Whether a cache has it.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.get()
    }

    /// Heap bytes that no cache answers for: whoever uses it does.
    pub(crate) fn bytes_unkept(&self) -> usize {
        self.symbols.borrow().bytes_held() - self.bytes_kept.get()
    }

    /// Gives what a cache answers for, and what it should.
    pub(super) fn note_kept(&self) -> (usize, usize) {
        let bytes = self.symbols.borrow().bytes_held();
        (self.bytes_kept.replace(bytes), bytes)
    }

    /// The cache gives it up; gives the bytes it answered for.
    pub(super) fn give_up(&self) -> usize {
        self.is_kept.set(false);
        self.bytes_kept.replace(0)
    }
}

impl Stored {
    /// Heap bytes of the list of nodes.
    pub(crate) fn nodes_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<u32>()
    }
}
