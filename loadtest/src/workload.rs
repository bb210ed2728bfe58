//! What is pushed: made-up profiles whose leaf tells their number, or files of real ones.

use std::io::{self, Write};
use std::path::Path;

use prost::Message;
use proto::pprof::{Function, Line, Location, Profile, Sample, ValueType};
use proto::push::{PushRequest, RawProfileSeries, RawSample};
use proto::types::LabelPair;

/// Profile files read at most: they are held in memory.
pub const FILES_MAX: usize = 10_000;

/// Frames of a made-up stack above its leaf.
const DEPTH: u64 = 20;

/// Where profiles come from.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Profiles made of a seed, see [`generated`].
    Generated {
        /// Samples of a profile.
        samples_count: u64,
    },
    /// Real profiles (pprof, plain or gzip'd), sent in turn with the time of sending.
    Files(Vec<Vec<u8>>),
}

impl Workload {
    /// Reads the `.pb.gz`, `.pb` and `.pprof` files of a folder, in order of their names.
    pub fn of_folder(folder: &Path) -> io::Result<Self> {
        let mut paths = std::fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<io::Result<Vec<_>>>()?;
        paths.retain(|path| {
            let name = path.to_string_lossy();
            [".pb.gz", ".pb", ".pprof"].iter().any(|ending| name.ends_with(ending))
        });
        paths.sort();
        paths.truncate(FILES_MAX);
        if paths.is_empty() {
            let text = format!("no profile files in {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        paths.iter().map(std::fs::read).collect::<io::Result<_>>().map(Self::Files)
    }

    /// The body of push `number`: one series of `service` with one profile taken at `time_ns` (Unix).
    pub fn request(&self, service: &str, number: u64, time_ns: i64) -> Vec<u8> {
        let profile = match self {
            Self::Generated { samples_count } => {
                generated(number, *samples_count, time_ns).encode_to_vec()
            }
            Self::Files(files) => {
                let file = &files
                    [usize::try_from(number % files.len() as u64).expect("an index of files")];
                restamped(file, time_ns)
            }
        };
        let label =
            |name: &str, value: &str| LabelPair { name: name.to_owned(), value: value.to_owned() };
        let sample = RawSample { raw_profile: profile.into(), id: number.to_string() };
        let series = RawProfileSeries {
            labels: vec![label("__name__", "process_cpu"), label("service_name", service)],
            samples: vec![sample],
            ..RawProfileSeries::default()
        };
        PushRequest { series: vec![series] }.encode_to_vec()
    }
}

/// Name of the leaf that only push `number` has: what was stored can be counted by it.
pub fn leaf_name(number: u64) -> String {
    format!("push_{number}")
}

/// A CPU profile: one sample of value 1 with the leaf of its number, the others from a pool of stacks that all pushes share.
pub fn generated(number: u64, samples_count: u64, time_ns: i64) -> Profile {
    let mut profile = Profile {
        string_table: ["", "cpu", "nanoseconds"].map(str::to_owned).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        period_type: Some(ValueType { r#type: 1, unit: 2 }),
        period: 10_000_000,
        time_nanos: time_ns,
        duration_nanos: 10_000_000_000,
        ..Profile::default()
    };
    let stack: Vec<u64> =
        (0..DEPTH).map(|i| frame(&mut profile, format!("frame_{i}"))).rev().collect();
    let leaf = frame(&mut profile, leaf_name(number));
    profile.sample.push(sample([&[leaf], stack.as_slice()].concat(), 1));
    for i in 1..samples_count {
        // A multiplicative walk: neighbours differ, every push has the same stacks.
        let shared = frame(&mut profile, format!("shared_{}", i.wrapping_mul(2_654_435_761) % 997));
        let depth = usize::try_from(i % DEPTH).expect("a depth");
        profile.sample.push(sample([&[shared], &stack[depth..]].concat(), 10_000_000));
    }
    profile
}

fn frame(profile: &mut Profile, name: String) -> u64 {
    let id = profile.function.len() as u64 + 1;
    let name_row = profile.string_table.len() as i64;
    profile.string_table.push(name);
    profile.function.push(Function {
        id,
        name: name_row,
        system_name: name_row,
        ..Function::default()
    });
    profile.location.push(Location {
        id,
        line: vec![Line { function_id: id, line: 0 }],
        ..Location::default()
    });
    id
}

fn sample(location_id: Vec<u64>, value: i64) -> Sample {
    Sample { location_id, value: vec![value], label: Vec::new() }
}

/// The same profile taken at another time: the last of equal fields counts, and a gzip'd message goes on in another member.
fn restamped(profile: &[u8], time_ns: i64) -> Vec<u8> {
    let time = Profile { time_nanos: time_ns, ..Profile::default() }.encode_to_vec();
    let is_gzip = profile.starts_with(&[0x1f, 0x8b]);
    [profile, &if is_gzip { gzip(&time) } else { time }].concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a vector takes all bytes")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_push_has_a_leaf_of_its_own_and_stacks_that_all_share() {
        let names = |number| generated(number, 50, 7).string_table;
        let (first, second) = (names(1), names(2));
        assert!(first.contains(&leaf_name(1)) && !second.contains(&leaf_name(1)));
        assert_eq!(first.len(), second.len());
        let differing = first.iter().zip(&second).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 1, "the leaf alone");
        assert_eq!(generated(1, 50, 7).sample.len(), 50);
    }

    #[test]
    fn a_file_is_sent_with_the_time_of_sending() {
        let profile = Profile { time_nanos: 5, period: 9, ..Profile::default() }.encode_to_vec();
        for file in [profile.clone(), gzip(&profile)] {
            let request = Workload::Files(vec![file]).request("s", 3, 77);
            let request = PushRequest::decode(request.as_slice()).unwrap();
            let sent = request.series[0].samples[0].raw_profile.to_vec();
            let mut plain = Vec::new();
            if sent.starts_with(&[0x1f, 0x8b]) {
                flate2::read::MultiGzDecoder::new(sent.as_slice()).read_to_end(&mut plain).unwrap();
            } else {
                plain = sent;
            }
            let profile = Profile::decode(plain.as_slice()).unwrap();
            assert_eq!((profile.time_nanos, profile.period), (77, 9));
        }
    }
}
