//! Laws of this stage.
