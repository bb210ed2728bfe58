//! Committed code equals what the `.proto` files generate. `UPDATE_GEN=1 cargo test -p proto --test codegen` rewrites it.
//!
//! protox compiles the files, so neither building nor testing needs protoc.

use std::path::Path;
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;
use proto::procedure::{HEALTH_CHECK, HEALTH_WATCH, Procedure};

const PROTOS: [&str; 5] = [
    "google/v1/profile.proto",
    "grpc/health/v1/health.proto",
    "push/v1/push.proto",
    "querier/v1/querier.proto",
    "types/v1/types.proto",
];
const PACKAGES: [&str; 5] = ["google.v1", "grpc.health.v1", "push.v1", "querier.v1", "types.v1"];

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    generate(&compile(), made.path());

    let update = env::var_os("UPDATE_GEN").is_some();
    let mut stale = Vec::new();
    for package in PACKAGES {
        for file in [format!("{package}.rs"), format!("{package}.serde.rs")] {
            let committed_path = home.join("src/generated").join(&file);
            let committed = fs::read_to_string(&committed_path).unwrap_or_default();
            let fresh = fs::read_to_string(made.path().join(&file)).unwrap();
            if committed != fresh {
                stale.push(file);
                if update {
                    fs::write(&committed_path, fresh).unwrap();
                }
            }
        }
    }
    assert!(update || stale.is_empty(), "{stale:?} differ from protos/; run with UPDATE_GEN=1");
}

#[test]
fn the_procedure_table_is_the_services_of_the_proto_files() {
    let mut declared: Vec<String> = compile()
        .file
        .iter()
        .flat_map(|file| {
            file.service.iter().flat_map(|service| {
                service
                    .method
                    .iter()
                    .map(|m| format!("/{}.{}/{}", file.package(), service.name(), m.name()))
            })
        })
        .collect();
    declared.sort();
    let mut known: Vec<_> = Procedure::ALL.iter().map(|p| p.path().to_owned()).collect();
    known.extend([HEALTH_CHECK, HEALTH_WATCH].map(str::to_owned));
    known.sort();
    assert_eq!(known, declared);
}

fn compile() -> FileDescriptorSet {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("protos");
    protox::compile(PROTOS, [protos]).expect("the .proto files compile")
}

fn generate(descriptors: &FileDescriptorSet, out: &Path) {
    prost_build::Config::new()
        // `Bytes`, so that a profile inside a request is a view of the request's buffer.
        .bytes(["."])
        .out_dir(out)
        .compile_fds(descriptors.clone())
        .expect("prost takes what protox made");
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())
        .expect("descriptors read back")
        .ignore_unknown_fields()
        .out_dir(out)
        .build(&PACKAGES.map(|package| format!(".{package}")))
        .expect("pbjson takes what protox made");
}
