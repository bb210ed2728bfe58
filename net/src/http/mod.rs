//! HTTP: everything clients call, on one port.
//!
//! Only this module knows HTTP; what a request means is decided by the components behind [`Api`].

mod app;

pub use app::{Api, HttpFailure, NameCharset, Reads, Rendered, Upload, Writes};
