//! Rereads files of overrides on a thread of its own and tells the shards.
//!
//! What cannot be used changes nothing: the overrides in force stay, one log line names file and line, and
//! `pyroscope_runtime_config_last_reload_successful` is 0 until the files can be used again.

use std::sync::Arc;
use std::time::Duration;

use engine::limits::{Limits, Overrides};
use futures_channel::mpsc;

use super::Update;
use super::file::{Files, LoadError};

/// Files of overrides and what they last said.
#[derive(Debug)]
pub struct Reloader {
    paths: String,
    default: Arc<Limits>,
    /// What is in force.
    overrides: Arc<Overrides>,
    files: Files,
    /// The last text that was refused: it is told of once.
    refused: Option<String>,
}

impl Reloader {
    /// Reads the files for the first time; an error is to end the process.
    pub fn open(paths: String, default: Limits) -> Result<Self, LoadError> {
        let default = Arc::new(default);
        let files = Files::read(&paths)?;
        let loaded = files.parse(&default)?;
        warn_of(&loaded.not_honoured);
        let overrides = Arc::new(loaded.overrides);
        Ok(Self { paths, default, overrides, files, refused: None })
    }

    /// What is in force.
    pub fn overrides(&self) -> &Arc<Overrides> {
        &self.overrides
    }

    /// Reads the files again; whether they could be used.
    fn reload(&mut self) -> bool {
        let loaded = Files::read(&self.paths).and_then(|files| {
            // What was read before is in force.
            let changed = files != self.files;
            let loaded = if changed { Some(files.parse(&self.default)?) } else { None };
            Ok((files, loaded))
        });
        match loaded {
            Ok((_, None)) => {}
            Ok((files, Some(loaded))) => {
                warn_of(&loaded.not_honoured);
                self.files = files;
                self.overrides = Arc::new(loaded.overrides);
                let tenants = self.overrides.tenants().len();
                tracing::info!(tenants, "runtime config reloaded");
            }
            Err(error) => {
                let text = error.to_string();
                if self.refused.as_ref() != Some(&text) {
                    tracing::error!(%error, "runtime config not reloaded; the old one stays in force");
                    self.refused = Some(text);
                }
                return false;
            }
        }
        self.refused = None;
        true
    }

    /// Goes on reading every `period`; the thread ends with the process, or when no shard listens any more.
    pub fn start(
        mut self,
        period: Duration,
        mut shards: Vec<mpsc::Sender<Update>>,
    ) -> std::io::Result<()> {
        let rereads = move || {
            let mut told: Vec<Option<Update>> = vec![None; shards.len()];
            while shards.iter().any(|shard| !shard.is_closed()) {
                std::thread::sleep(period);
                let is_successful = self.reload();
                let update = Update { overrides: Arc::clone(&self.overrides), is_successful };
                for (shard, told) in shards.iter_mut().zip(&mut told) {
                    let is_news = told.as_ref().is_none_or(|told| !update.is_same(told));
                    // A shard that has not taken the last ones yet is told at the next turn.
                    if is_news && shard.try_send(update.clone()).is_ok() {
                        *told = Some(update.clone());
                    }
                }
            }
        };
        std::thread::Builder::new().name("runtime-config".to_owned()).spawn(rereads).map(drop)
    }
}

fn warn_of(not_honoured: &[String]) {
    for key in not_honoured {
        tracing::warn!(%key, "this key of the runtime config is accepted and not honoured");
    }
}
