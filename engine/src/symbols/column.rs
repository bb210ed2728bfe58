//! Columns of symbol tables: vectors that grow by a quarter, since what they hold lives as long as the head.
//!
//! Doubling would leave a third of a table's bytes unused on average; a quarter leaves a tenth and copies four bytes for each
//! byte kept, which is nothing beside interning.

/// Rows of the first allocation.
const ROWS_MIN: usize = 32;

/// Appends to a column.
#[inline]
pub(super) fn push<T>(column: &mut Vec<T>, value: T) {
    if column.len() == column.capacity() {
        grow(column);
    }
    column.push(value);
}

#[cold]
fn grow<T>(column: &mut Vec<T>) {
    column.reserve_exact((column.capacity() / 4).max(ROWS_MIN));
}

/// Heap bytes of a column.
pub(super) fn bytes<T>(column: &Vec<T>) -> usize {
    column.capacity() * size_of::<T>()
}
